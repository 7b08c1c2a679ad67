"""The port proxy: a small process that listens on the host's ports and leads into the containers.

    client ──▶ 0.0.0.0:8080 ─ proxy ─ socket made inside the container's network namespace ──▶ container's port 80
               helper thread,          main thread
               host's namespace        wanders between containers' namespaces

A socket belongs to the network namespace of the thread that made it, whoever uses it later. So nothing has to be
routed or translated, also not in a user namespace, and an application that listens on its own localhost is reached
too. In a user namespace there is no way back into the host's network namespace (setns(2) wants rights there), so the
main thread never stands in it: a helper that never leaves makes the listening sockets.

The container's own address is tried before its localhost: then applications that trust 127.0.0.1 (PostgreSQL's
``trust``, Redis' protected mode) see a connection from their own address and not from their localhost.

It is told everything that it should publish, each time (``apply``), on ``ports.sock``: lines of JSON. It needs no
supervisor and outlives it; it holds nothing that the supervisor couldn't tell another one. Started like the monitor,
with ``python -I -S``; imports the standard library, ``devenv.linux`` and ``devenv.util``.
"""

from __future__ import annotations

import _thread
import errno
import functools
import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any

from devenv.linux import netns
from devenv.network import relay
from devenv.util import identity

BACKLOG = 512
# Two sockets and two pipes; and some for listening, for containers' namespaces and for commands.
DESCRIPTORS_EACH = 6
DESCRIPTORS_KEPT = 256
MAX_CONNECTIONS = 16384
PROTOCOL = 1


class Helper:
    """A thread that stays in the host's network namespace and makes sockets there."""

    def __init__(self) -> None:
        self._go, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._go.acquire()
        self._done.acquire()
        self._job: Callable[[], Any] = lambda: None
        self._result: Any = None
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while True:
            self._go.acquire()
            try:
                self._result = self._job()
            except OSError as exc:
                self._result = exc
            self._done.release()

    def call(self, job: Callable[[], Any]) -> Any:
        self._job = job
        self._go.release()
        self._done.acquire()
        if isinstance(self._result, OSError):
            raise self._result
        return self._result


class Namespaces:
    """Where the main thread stands. It rests in an empty namespace of its own, so as to keep no container's alive."""

    def __init__(self) -> None:
        netns.unshare()
        self._rest = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._here = self._rest

    def enter(self, descriptor: int) -> None:
        if self._here != descriptor:
            netns.setns(descriptor)
            self._here = descriptor

    def leave(self, descriptor: int) -> None:
        if self._here == descriptor:
            self.enter(self._rest)


class Container:
    """A process whose network namespace is a container's, until it ends."""

    def __init__(self, server: Server, pid: int, start_time: int, addresses: list[str]) -> None:
        self._server = server
        self._loopback = False
        self.addresses = addresses
        self._namespace = self._pidfd = -1
        try:
            self._pidfd = os.pidfd_open(pid)
            # After the descriptor was had: now the number can't change its owner any more.
            if identity.process_start_time(pid) != start_time:
                raise ProcessLookupError
            self._namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.drop()
            return
        server.loop.add(self._pidfd, relay.IN, lambda events: self.drop())

    def candidates(self, port: int) -> list[tuple[int, relay.Address]]:
        if self._namespace < 0:
            return []
        own = [(_family(address), (address, port)) for address in self.addresses]
        local = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
        return [*local, *own] if self._loopback else [*own, *local]

    def socket(self, family: int, kind: int) -> socket.socket:
        if self._namespace < 0:
            raise ProcessLookupError
        self._server.namespaces.enter(self._namespace)
        return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def works(self, address: relay.Address) -> None:
        self._loopback = address[0] in ("127.0.0.1", "::1")

    def drop(self) -> None:
        """It has ended: let its namespace go."""
        if self._namespace >= 0:
            self._server.namespaces.leave(self._namespace)
            os.close(self._namespace)
            self._namespace = -1
        if self._pidfd >= 0:
            self._server.loop.remove(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class Port:
    """A host port that listens, by one socket or (for every address) by two, and the container it leads to."""

    def __init__(self, server: Server, sockets: list[socket.socket], number: int) -> None:
        self._server = server
        self.number = number
        self.container: Container | None = None
        self.target = 0
        self._datagrams: list[relay.Datagrams] = []
        self._listeners: list[socket.socket] = []
        for one in sockets:
            if one.type == socket.SOCK_DGRAM:
                self._datagrams.append(relay.Datagrams(server.loop, one, backend=self._backend))
            else:
                self._listeners.append(one)
                server.loop.add(one.fileno(), relay.IN, functools.partial(self._accept, one))

    def lead(self, container: Container, target: int) -> None:
        if self.container is not container or self.target != target:
            self.container, self.target = container, target
            for datagrams in self._datagrams:
                datagrams.lead(target)

    def _backend(self) -> relay.Backend:
        assert self.container is not None
        return self.container

    def _accept(self, listener: socket.socket, events: int) -> None:
        for _ in range(32):
            if not self._server.room():
                self._server.pause(self)
                return
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._server.pause(self)
                    return
                # The client gave up while it waited: accept(2).
                continue
            client.setblocking(False)
            self._server.connect(client, self._backend(), self.target)

    def pause(self, *, paused: bool) -> None:
        for one in self._listeners:
            self._server.loop.modify(one.fileno(), 0 if paused else relay.IN)

    def close(self) -> None:
        for datagrams in self._datagrams:
            datagrams.close()
        for one in self._listeners:
            self._server.loop.remove(one.fileno())
            one.close()


class Server:
    def __init__(self, control: socket.socket) -> None:
        self.helper = Helper()
        self.namespaces = Namespaces()
        self.loop = relay.Loop()
        self._control = control
        self._ports: dict[str, tuple[dict[str, Any], Port]] = {}  # by key: what was wished, what listens
        self._containers: dict[tuple[int, int], Container] = {}
        self._connections: set[relay.Connection] = set()
        self._paused: set[Port] = set()
        self._limit = _connection_limit()
        control.setblocking(False)
        self.loop.add(control.fileno(), relay.IN, self._command)

    def room(self) -> bool:
        return len(self._connections) < self._limit

    def pause(self, port: Port) -> None:
        """Stop accepting until a connection has ended: the kernel's queue holds who comes."""
        port.pause(paused=True)
        self._paused.add(port)

    def connect(self, client: socket.socket, backend: relay.Backend, target: int) -> None:
        connection = relay.Connection(self.loop, client, backend=backend, port=target, ended=self._ended)
        if not connection.over:
            self._connections.add(connection)

    def _ended(self, connection: relay.Connection) -> None:
        self._connections.discard(connection)
        while self._paused:
            self._paused.pop().pause(paused=False)

    # Commands

    def _command(self, events: int) -> None:
        try:
            client, _ = self._control.accept()
        except OSError:
            return
        client.setblocking(False)
        Command(self, client)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        match request.get("op"):
            case "hello":
                return {"ok": True, "protocol": PROTOCOL, "pid": os.getpid(), "connections": len(self._connections)}
            case "apply":
                return {"ok": True, "results": self.apply(request["wanted"])}
            case "shutdown":
                self.loop.running = False
                return {"ok": True}
            case other:
                return {"ok": False, "error": f"unknown operation {other!r}"}

    def apply(self, wanted: list[dict[str, Any]]) -> dict[str, Any]:
        """Publish exactly ``wanted``: what listens already goes on, with no connection cut."""
        keep = {item["key"] for item in wanted}
        spare = {key: self._ports.pop(key) for key in list(self._ports) if key not in keep}
        containers = self._adopt(wanted)
        results: dict[str, Any] = {}
        late: list[dict[str, Any]] = []
        for item in wanted:
            held = self._ports.get(item["key"]) or self._take_over(item, spare)
            if held is not None and not _same_place(held[0], item):
                self._close(held[1])
                self._ports.pop(item["key"], None)
                held = None
            if held is None:
                late.append(item)
                continue
            self._ports[item["key"]] = (item, held[1])
        # What goes has to be gone before its port can be had by another.
        for _, port in spare.values():
            self._close(port)
        for item in late:
            try:
                self._ports[item["key"]] = (item, self._open(item))
            except OSError as exc:
                results[item["key"]] = {"errno": exc.errno, "port": item["first"]}
        for item in wanted:
            held = self._ports.get(item["key"])
            if held is not None:
                held[1].lead(containers[item["pid"], item["start_time"]], item["target"])
                results[item["key"]] = {"port": held[1].number}
        for key in [key for key in self._containers if key not in containers]:
            self._containers.pop(key).drop()
        return results

    def _close(self, port: Port) -> None:
        self._paused.discard(port)
        port.close()

    def _adopt(self, wanted: list[dict[str, Any]]) -> dict[tuple[int, int], Container]:
        found: dict[tuple[int, int], Container] = {}
        for item in wanted:
            key = (item["pid"], item["start_time"])
            container = found.get(key) or self._containers.get(key)
            if container is None:
                container = Container(self, *key, item["addresses"])
            container.addresses = item["addresses"]
            found[key] = self._containers[key] = container
        return found

    def _take_over(
        self, item: dict[str, Any], spare: dict[str, tuple[dict[str, Any], Port]]
    ) -> tuple[dict[str, Any], Port] | None:
        """A socket of a container that goes, for the one that comes in its place: nobody is refused in between."""
        for key, (old, port) in spare.items():
            if _same_place(old, item) and item["first"] <= port.number <= item["last"]:
                return spare.pop(key)
        return None

    def _open(self, item: dict[str, Any]) -> Port:
        if item["first"] == 0:
            choices = [item.get("prefer", 0), 0] if item.get("prefer") else [0]
        else:
            choices = list(range(item["first"], item["last"] + 1))
            if item.get("prefer") in choices:
                choices.insert(0, item["prefer"])
        error = OSError(errno.EADDRINUSE, "no port to choose from")
        for number in choices:
            try:
                sockets = self.helper.call(functools.partial(_listen, item["protocol"], item["host_ip"], number))
            except OSError as exc:
                error = exc
                if exc.errno != errno.EADDRINUSE:
                    break
                continue
            return Port(self, sockets, sockets[0].getsockname()[1])
        raise error


class Command:
    """A connection on ``ports.sock``: lines of JSON, each answered by one."""

    def __init__(self, server: Server, client: socket.socket) -> None:
        self._server = server
        self._client = client
        self._buffer = b""
        server.loop.add(client.fileno(), relay.IN, self._ready)

    def _ready(self, events: int) -> None:
        try:
            data = self._client.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._server.loop.remove(self._client.fileno())
            self._client.close()
            return
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            try:
                reply = self._server.handle(json.loads(line))
            except (ValueError, KeyError, TypeError) as exc:
                reply = {"ok": False, "error": f"{type(exc).__name__}: {exc}"}
            try:
                self._client.settimeout(5)
                self._client.sendall(json.dumps(reply).encode() + b"\n")
                self._client.setblocking(False)
            except OSError:
                # Whoever asked is gone; what was asked is done.
                pass


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _same_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("protocol", "host_ip", "first", "last"))


def _listen(protocol: str, host_ip: str, port: int) -> list[socket.socket]:
    """Sockets that listen on a port; with no address given, on all of both families."""
    if host_ip:
        return [_listen_one(protocol, host_ip, port)]
    sockets = [_listen_one(protocol, "0.0.0.0", port)]
    try:
        sockets.append(_listen_one(protocol, "::", sockets[0].getsockname()[1]))
    except OSError as exc:
        # A machine without IPv6 publishes on IPv4.
        if exc.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            sockets[0].close()
            raise
    return sockets


def _listen_one(protocol: str, address: str, port: int) -> socket.socket:
    family = _family(address)
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    one = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # For connections of a proxy before this one that linger; two that listen are refused all the same.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port))
        if kind == socket.SOCK_STREAM:
            one.listen(BACKLOG)
    except BaseException:
        one.close()
        raise
    return one


def _connection_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard if hard != resource.RLIM_INFINITY else 1 << 20, 1 << 20)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(16, min(MAX_CONNECTIONS, (soft - DESCRIPTORS_KEPT) // DESCRIPTORS_EACH))


def main(arguments: list[str]) -> None:
    """``arguments``: the descriptor of the listening ``ports.sock``. The lock's descriptor is just kept open."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Ctrl-C in the terminal that started the engine is not meant for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Server(socket.socket(fileno=int(arguments[0]))).loop.run()
    os._exit(0)
