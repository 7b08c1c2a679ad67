"""The process of the front proxy: one for each user, found again by what it leaves in its folder.

    <run>/proxy/lock           held by it as long as it lives
    <run>/proxy/proxy.json     which process it is, and where it listens
    <run>/proxy/log            what it says in the background

The sockets are made by the command, which can say why one can't be had, and handed over.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from devenv import errors
from devenv.network import ports
from devenv.runtime import state
from devenv.util import fs, identity, lock, paths

HTTPS, HTTP = (443, 8443), (80, 8080)  # the usual port, and the one in place of it
PATIENCE = 30.0


class Settings(NamedTuple):
    https: int
    http: int  # 0: not at all
    redirect: bool


class Running(NamedTuple):
    pid: int
    start_time: int
    boot_id: str
    https: int
    http: int
    redirect: bool

    @property
    def alive(self) -> bool:
        return self.boot_id == state.boot_id() and identity.process_start_time(self.pid) == self.start_time


class Listening(NamedTuple):
    """A port on every loopback address."""

    port: int
    sockets: tuple[socket.socket, ...]


def folder(where: paths.Paths) -> str:
    return f"{where.run}/proxy"


def authority_folder(where: paths.Paths) -> str:
    return f"{where.data}/proxy"


def find(where: paths.Paths) -> Running | None:
    """None when none runs."""
    try:
        found = Running(**fs.read_json(f"{folder(where)}/proxy.json"))
    except TypeError:
        return None
    return found if found.alive else None


@contextlib.contextmanager
def claimed(where: paths.Paths) -> Iterator[int]:
    """The descriptor of a lock that says that there is no other. Raises ``UsageError`` if there is one."""
    paths.prepare(where)
    os.makedirs(folder(where), mode=0o700, exist_ok=True)
    held = lock.acquire(f"{folder(where)}/lock", wait=False)
    if held is None:
        raise errors.UsageError("the proxy runs already", hint="`devenv proxy stop` ends it")
    try:
        yield held
    finally:
        os.close(held)


def listen(wanted: int | None, usual: tuple[int, int]) -> tuple[Listening, str]:
    """On the wanted port, or on the first of the usual ones that can be had; and why it isn't the first one.

    Raises ``NetworkError``.
    """
    if wanted is not None:
        return _listen(wanted), ""
    try:
        return _listen(usual[0]), ""
    except errors.NetworkError as exc:
        made = _listen(usual[1])
        why = f"{exc.message}, so it is {made.port}"
        return made, f"{why}; {exc.hint}" if exc.hint else why


def _listen(port: int) -> Listening:
    made: list[socket.socket] = []
    try:
        for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            try:
                made.append(_bind(address, family, made[0].getsockname()[1] if made else port))
            except OSError as exc:
                # A machine without IPv6 has IPv4 alone.
                if not made or exc.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                    raise
    except OSError as exc:
        for each in made:
            each.close()
        raise _refusal(port, exc) from exc
    return Listening(made[0].getsockname()[1], tuple(made))


def _bind(address: str, family: int, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
        made.listen(512)
    except BaseException:
        made.close()
        raise
    return made


def _refusal(port: int, exc: OSError) -> errors.NetworkError:
    if exc.errno == errno.EACCES:
        return errors.NetworkError(
            f"port {port} is reserved for root",
            hint=f"`sudo sysctl net.ipv4.ip_unprivileged_port_start={port}` allows it to everyone",
        )
    if exc.errno == errno.EADDRINUSE:
        holder = ports.holder(port, host_ip="127.0.0.1")
        return errors.NetworkError(f"port {port} is taken by {holder or 'something that this user cannot see'}")
    return errors.NetworkError(f"can't listen on port {port}: {exc.strerror}")


def enroll(where: paths.Paths, pid: int, settings: Settings) -> Running:
    start_time = identity.process_start_time(pid)
    if start_time is None:
        raise errors.HostError("the proxy ended at once", hint=f"see `{folder(where)}/log`")
    made = Running(pid, start_time, state.boot_id(), *settings)
    fs.write_json(f"{folder(where)}/proxy.json", made._asdict())
    return made


def forget(where: paths.Paths) -> None:
    """By who holds the lock, or knows that nobody does."""
    for name in ("proxy.json", "log", "lock"):
        fs.remove(f"{folder(where)}/{name}")
    fs.remove_folder(folder(where))


_PROGRAM = "import sys; sys.path[:] = {path!r}; from devenv.proxy import server; server.main(sys.argv[1])"


def detached(where: paths.Paths, settings: Settings, https: Listening, http: Listening | None, held: int) -> int:
    """A proxy in the background that answers; its pid. Raises ``HostError`` with what it said if it ends."""
    ready, tell = os.pipe2(os.O_CLOEXEC)
    handed = [each.fileno() for each in https.sockets], [each.fileno() for each in http.sockets] if http else []
    told = {"where": where, "settings": settings, "https": handed[0], "http": handed[1], "ready": tell}
    program = _PROGRAM.format(path=sys.path)
    argv = [sys.executable, "-I", "-c", program, json.dumps(told), "devenv-proxy"]
    path = f"{folder(where)}/log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as log, open(ready, "rb") as answer:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(*handed[0], *handed[1], tell, held),
            start_new_session=True,
            cwd="/",
        )
        os.close(tell)
        if answer.read(1) != b"1":
            process.kill()
            process.wait()
            with open(path, "rb") as written:
                said = written.read()[-2000:].decode(errors="replace").strip()
            raise errors.HostError("the proxy did not start", note=said or None)
    # It outlives the command, which would complain.
    process.returncode = 0
    return process.pid


def stop(where: paths.Paths, running: Running) -> None:
    """Raises ``HostError`` if it doesn't end."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(running.pid)
        try:
            # Only now is it certain whose pid that is.
            if running.alive:
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                if not ended.poll(PATIENCE * 1000):
                    raise errors.HostError("the proxy does not end", hint=f"`kill -9 {running.pid}`")
        finally:
            os.close(descriptor)
    held = lock.acquire(f"{folder(where)}/lock", wait=False)
    # Else it is the next one's already.
    if held is not None:
        forget(where)
        os.close(held)
