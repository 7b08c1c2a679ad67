"""The supervisor's side of the port proxy: start it, tell it what to publish, end it.

    <run>/projects/<id>/ports.sock   its socket        ports.lock   held by it as long as it lives
                        ports.json   what it was told last and what came of it, for whoever asks (`devenv port`)
                        names.json   who is called what, for the name servers of other projects

Both the socket and the lock are made here and handed to it, so nobody has to wait until it has started.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import devenv
from devenv import errors
from devenv.network import names, ports, types
from devenv.util import fs, lock, sockets

PATIENCE = 20.0


class Wanted(NamedTuple):
    """A publication and the container it leads to."""

    publication: types.Publication
    backend: types.Backend

    @property
    def key(self) -> str:
        one = self.publication
        return f"{self.backend.container_id}/{one.host_ip}/{one.first}-{one.last}/{one.target}/{one.protocol}"


class Applied(NamedTuple):
    published: tuple[types.Published, ...]
    refused: tuple[tuple[Wanted, errors.NetworkError], ...]

    def check(self) -> None:
        """Raise the first refusal, if there is one."""
        if self.refused:
            raise self.refused[0][1]


class PortProxy:
    """Safe to call from any thread; one call at a time."""

    def __init__(self, project_run: str) -> None:
        self._folder = project_run
        self._connection: socket.socket | None = None
        self._calling = threading.Lock()
        self._chosen: dict[str, int] = {}  # by key: ports of containers that may not be running just now
        self._child = 0  # a proxy that we started ourselves, and have to wait for when it has ended

    def apply(self, wanted: Sequence[Wanted]) -> Applied:
        """Publish exactly ``wanted``. A proxy is started if there is none, unless there is nothing to publish."""
        with self._calling:
            if not wanted and not self._connect(start=False):
                self._remember([], {})
                return Applied((), ())
            before = self._chosen | {entry["key"]: entry["port"] for entry in self._recall()}
            request = [_message(item, before.get(item.key, 0)) for item in wanted]
            results = self._call({"op": "apply", "wanted": request})["results"]
            self._remember(wanted, results)
            # Whoever comes back gets the port that was chosen for it before.
            self._chosen |= {
                item.key: results[item.key]["port"]
                for item in wanted
                if "errno" not in results[item.key] and not _is_fixed(item.publication)
            }
        published: list[types.Published] = []
        refused: list[tuple[Wanted, errors.NetworkError]] = []
        for item in wanted:
            result = results[item.key]
            if "errno" in result:
                refused.append((item, refusal(item.publication, result["errno"])))
            else:
                published.append(types.Published(item.backend.container_id, item.publication, result["port"]))
        return Applied(tuple(published), tuple(refused))

    def start(self) -> None:
        """Begin to start it, so that whoever has something to tell need not wait for all of that."""
        with self._calling:
            self._connect(start=True)

    def tell_names(self, picture: names.Picture) -> dict[str, OSError]:
        """Let exactly these containers know each other's names. Returns those in which nobody could listen, and why."""
        with self._calling:
            data = picture.to_json()
            if not picture.cards and not self._connect(start=False):
                return {}
            failed = self._call({"op": "names", "picture": data})["failed"]
            # For other projects, with which there may be a network in common.
            fs.write_json(f"{self._folder}/names.json", data)
        return {key: OSError(code, os.strerror(code)) for key, code in failed.items()}

    def published(self) -> list[types.Published]:
        return published(self._folder)

    def guard(self) -> socket.socket:
        """A connection that nothing is said on: it becomes readable when the proxy has gone. The caller's to close."""
        with self._calling:
            return sockets.connect(f"{self._folder}/ports.sock")

    def running(self) -> bool:
        with self._calling:
            return self._connect(start=False)

    def shutdown(self) -> None:
        """End the proxy, and with it every published port; one that isn't there is ended already."""
        with self._calling:
            try:
                if self._connect(start=False):
                    self._call({"op": "shutdown"}, start=False)
            except (errors.NetworkError, OSError):
                pass
            self._disconnect()
            # It holds the lock to its very end; so does one that doesn't answer, which then is for its holder to end.
            deadline = time.monotonic() + PATIENCE
            while os.path.exists(f"{self._folder}/ports.lock") and time.monotonic() < deadline:
                held = lock.acquire(f"{self._folder}/ports.lock", wait=False)
                if held is not None:
                    for name in ("ports.sock", "ports.json", "names.json", "ports.log", "ports.lock"):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(f"{self._folder}/{name}")
                    os.close(held)
                    break
                time.sleep(0.002)
            self._reap()

    def close(self) -> None:
        """Let go of the proxy, which goes on."""
        with self._calling:
            self._disconnect()

    def _remember(self, wanted: Sequence[Wanted], results: dict[str, Any]) -> None:
        entries = [
            {
                "key": item.key,
                "container": item.backend.container_id,
                "publication": item.publication._asdict(),
                "port": results[item.key]["port"],
            }
            for item in wanted
            if "errno" not in results[item.key]
        ]
        if entries or os.path.exists(f"{self._folder}/ports.json"):
            fs.write_json(f"{self._folder}/ports.json", entries)

    def _recall(self) -> list[dict[str, Any]]:
        entries = fs.read_json(f"{self._folder}/ports.json")
        return entries if isinstance(entries, list) else []

    def _call(self, request: dict[str, Any], *, start: bool = True) -> dict[str, Any]:
        data = json.dumps(request).encode() + b"\n"
        for last in (False, True):
            if not self._connect(start=start) or self._connection is None:
                raise errors.NetworkError("the port proxy is not running")
            try:
                self._connection.sendall(data)
                reply = _line(self._connection)
            except OSError as exc:
                # It was killed since we last spoke to it; the next one is told everything anyway.
                self._disconnect()
                if last:
                    raise errors.NetworkError(
                        f"the port proxy does not answer: {exc.strerror or exc}",
                        hint=f"see `{self._folder}/ports.log`",
                    ) from exc
                continue
            if not last and str(reply.get("error")).startswith("unknown operation"):
                # Of a devenv before an upgrade. Who guards it notices its end, and tells the next one its ports.
                self._end_old()
                continue
            if not reply.get("ok"):
                raise errors.NetworkError(f"the port proxy refuses: {reply.get('error')}")
            return reply
        raise AssertionError

    def _end_old(self) -> None:
        assert self._connection is not None
        with contextlib.suppress(OSError):
            self._connection.sendall(b'{"op": "shutdown"}\n')
            _line(self._connection)
        self._disconnect()
        # It holds the lock to its very end.
        with lock.held(f"{self._folder}/ports.lock"):
            self._reap()

    def _connect(self, *, start: bool) -> bool:
        if self._connection is not None:
            if _open(self._connection):
                return True
            self._disconnect()
        with contextlib.suppress(OSError):
            if not start or self._is_running():
                self._connection = sockets.connect(f"{self._folder}/ports.sock")
        if self._connection is None and start:
            self._start()
            self._connection = sockets.connect(f"{self._folder}/ports.sock")
        if self._connection is not None:
            self._connection.settimeout(PATIENCE)
        return self._connection is not None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _is_running(self) -> bool:
        return os.path.exists(f"{self._folder}/ports.sock")

    def _start(self) -> None:
        """A new proxy, unless somebody else is just starting one."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        held = lock.acquire(f"{self._folder}/ports.lock", wait=False)
        if held is None:
            self._await()
            return
        try:
            with sockets.listen(f"{self._folder}/ports.sock") as listener:
                self._reap()
                self._child = spawn(listener.fileno(), held, self._folder)
        finally:
            # The proxy has its own copy, and the lock is shared between the two.
            os.close(held)

    def _reap(self) -> None:
        """Wait for a child that has let go of the lock, so that its end is near if not past."""
        if self._child:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, 0)
            self._child = 0

    def _await(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                sockets.connect(f"{self._folder}/ports.sock").close()
                return
            time.sleep(0.005)
        raise errors.NetworkError("a port proxy holds its lock and does not answer", hint="see `ports.log` beside it")


def published(project_run: str) -> list[types.Published]:
    """What is published now, read from disk by whoever asks."""
    entries = fs.read_json(f"{project_run}/ports.json")
    found: list[types.Published] = []
    for entry in entries if isinstance(entries, list) else ():
        with contextlib.suppress(KeyError, TypeError):
            publication = types.Publication(**entry["publication"])
            found.append(types.Published(entry["container"], publication, entry["port"]))
    return found


def spawn(listener: int, held: int, folder: str) -> int:
    """The pid of a new proxy, with the listening socket, the lock, a session of its own and nothing else of ours.

    Its network namespace is the calling thread's: the one whose ports are to be published.
    """
    root = str(pathlib.Path(devenv.__file__).resolve().parent.parent)
    program = (
        f"import sys; sys.path.insert(0, {root!r}); sys.path.append({_home_of_dnslib()!r}); "
        "from devenv.network import portproxy; portproxy.main(sys.argv[1:])"
    )
    # -I and -S: nothing of the user's site, folder or environment gets into a process that holds every port.
    mark = f"devenv-ports:{os.path.basename(folder)}"
    argv = [sys.executable, "-I", "-S", "-c", program, str(listener), folder, mark]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    output = os.open(f"{folder}/ports.log", flags, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(listener, held),
            start_new_session=True,
            cwd="/",
            env={},
        )
    finally:
        os.close(output)
    # It outlives this object, which would complain; whoever gets the pid waits for it.
    process.returncode = 0
    return process.pid


def _home_of_dnslib() -> str:
    """The folder that it is imported from; looked at last, so that nothing else in there hides anything."""
    found = importlib.util.find_spec("dnslib")
    if found is None or found.origin is None:
        raise errors.NetworkError("the Python package `dnslib` is missing", hint="install devenv again")
    return os.path.dirname(os.path.dirname(found.origin))


def _message(item: Wanted, prefer: int) -> dict[str, Any]:
    one, backend = item.publication, item.backend
    return {
        "key": item.key,
        "host_ip": one.host_ip,
        "first": one.first,
        "last": one.last,
        "protocol": one.protocol,
        "target": one.target,
        "prefer": prefer,
        "pid": backend.pid,
        "start_time": backend.start_time,
        "addresses": list(backend.addresses),
    }


def _open(connection: socket.socket) -> bool:
    """Whether the other end is still there; nothing is ever said to us unasked."""
    # With a timeout, Python waits for data also where MSG_DONTWAIT forbids the kernel to.
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(PATIENCE)


def _line(connection: socket.socket) -> dict[str, Any]:
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        data = connection.recv(1 << 16)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        parts.append(data)
    reply = json.loads(b"".join(parts))
    assert isinstance(reply, dict)
    return reply


def refusal(publication: types.Publication, code: int) -> errors.NetworkError:
    """Why a port can't be published, in words. Looks for the holder in the calling thread's network namespace."""
    where = ports.describe(publication)
    if code == errno.EADDRINUSE:
        if publication.first != publication.last:
            return errors.PortTaken(f"every port of `{where}` is taken", hint="widen the range")
        found = ports.holder(publication.first, protocol=publication.protocol, host_ip=publication.host_ip)
        project = _project(found) if found else ""
        by = f"the devenv project `{project}`" if project else found or "something that this user can't see"
        free = f'publish another one, or any free one with `published: ""` (target {publication.target})'
        hint = (
            f"stop it, or {free}"
            if found
            else f"find it with `sudo ss -lptn 'sport = :{publication.first}'`, or {free}"
        )
        return errors.PortTaken(
            f"port `{where}` is taken by {by}", hint=hint, port=publication.first, project_id=project
        )
    if code in (errno.EACCES, errno.EPERM):
        return errors.NetworkError(
            f"port `{where}` is reserved for root",
            hint="publish a port from 1024 up, or allow it: "
            f"`sudo sysctl net.ipv4.ip_unprivileged_port_start={publication.first}`",
        )
    if code == errno.EADDRNOTAVAIL:
        return errors.NetworkError(
            f"can't publish `{where}`: no interface of this machine has the address `{publication.host_ip}`",
            hint="leave the address out, or use 127.0.0.1",
        )
    return errors.NetworkError(f"can't publish `{where}`: {os.strerror(code)}")


def _is_fixed(publication: types.Publication) -> bool:
    return publication.first == publication.last != 0


def _project(found: ports.Holder) -> str:
    """The id of the devenv project whose proxy it is; empty for any other program."""
    _, mark, project = found.command.partition("devenv-ports:")
    return project.split()[0] if mark and project else ""
