"""Checks that need no program in the image: what listens in a container's network namespace, and what answers there.

Listening sockets are read from /proc/PID/net/tcp, which shows the namespace of that process and lists them before all
others (proc_pid_net(5)); no right is needed for it. Connections are made by a thread that has moved into the namespace:
a server that only listens on its own localhost is reached, and nothing need be published. Such a thread never returns
from there, since in a user namespace it could not: each attempt has one of its own.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from devenv.health import greetings
from devenv.linux import netns

_LISTEN = "0A"  # TCP_LISTEN of include/net/tcp_states.h


class Target(NamedTuple):
    kind: str  # listen, tcp, http or one of greetings.GREETINGS
    ports: tuple[int, ...]  # any of them will do where it is to listen; else the first is dialled
    host: str = ""
    path: str = "/"
    tls: bool = False
    status: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Target:
        return cls(**{**data, "ports": tuple(data["ports"])})

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "ports": list(self.ports)}


def attempt(target: Target, *, pid: int, addresses: Iterable[str], timeout: float) -> tuple[int, str]:
    """0, or 1 with the reason. Blocks for ``timeout`` seconds at most; ``addresses`` are the container's own."""
    if target.kind == "listen":
        return _look(pid, target.ports)
    found: list[tuple[int, str]] = []

    def work() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                netns.setns(descriptor)
            finally:
                os.close(descriptor)
            found.append(_dial_any(target, addresses, time.monotonic() + timeout))
        except OSError as exc:
            found.append((1, exc.strerror or str(exc)))

    thread = threading.Thread(target=work, name="dial", daemon=True)
    thread.start()
    thread.join(timeout + 1.0)
    return found[0] if found else (1, f"no answer within {timeout:g} s")


def _look(pid: int, ports: tuple[int, ...]) -> tuple[int, str]:
    listening = _listening(pid)
    if not listening.isdisjoint(ports):
        return 0, ""
    return 1, f"nothing listens on port {', '.join(map(str, ports))} yet"


def _listening(pid: int) -> set[int]:
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{name}", encoding="ascii") as file:
                next(file, "")
                for line in file:
                    _, local, _, state, _ = line.split(None, 4)
                    if state != _LISTEN:
                        break
                    found.add(int(local.rpartition(":")[2], 16))
        except OSError:  # the container has ended, or the kernel has no IPv6
            continue
    return found


def _dial_any(target: Target, addresses: Iterable[str], deadline: float) -> tuple[int, str]:
    hosts = (target.host,) if target.host else ("127.0.0.1", "::1", *addresses)
    reason = "nothing to connect to"
    for host in hosts:
        try:
            with socket.create_connection((host, target.ports[0]), _left(deadline)) as connection:
                connection.settimeout(_left(deadline))
                _ask(target, host, connection)
                return 0, ""
        except greetings.NotReady as exc:
            return 1, str(exc)
        except TimeoutError:
            return 1, f"port {target.ports[0]} does not answer"
        except (OSError, http.client.HTTPException) as exc:
            text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            # The first says most: others are tried only for servers that listen on one address.
            reason = f"port {target.ports[0]}: {text}" if host == hosts[0] else reason
    return 1, reason


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.01)


def _ask(target: Target, host: str, connection: socket.socket) -> None:
    if target.kind == "http":
        _request(target, host, connection)
    elif greet := greetings.GREETINGS.get(target.kind):
        greet(connection)


def _request(target: Target, host: str, connection: socket.socket) -> None:
    talk = http.client.HTTPConnection(host, target.ports[0])
    talk.sock = _encrypted(connection, host) if target.tls else connection
    # The host that people type: servers that check it know this one if they know any.
    talk.request(
        "GET", target.path, headers={"Host": target.host or "localhost", "User-Agent": "devenv", "Accept": "*/*"}
    )
    answer = talk.getresponse()
    good: Callable[[int], bool] = (lambda code: code == target.status) if target.status else (lambda code: code < 400)
    if not good(answer.status):
        raise greetings.NotReady(f"GET {target.path}: {answer.status} {answer.reason}".rstrip())


def _encrypted(connection: socket.socket, host: str) -> socket.socket:
    import ssl

    # It asks whether the service answers, not whether it is who it says: certificates in development are self-made.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=host)
