"""The builder's side of the process that forks its containers: ``runner`` is the other one."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import socket
import sys
import threading
from typing import Any, NamedTuple

from devenv import errors
from devenv.linux import sealed
from devenv.runtime import protocol
from devenv.util import paths

# The repository's or the installation's root, for an interpreter that reads neither PYTHONPATH nor site-packages.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PROGRAM = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from devenv.linux import sealed; sealed.ensure(); "
    "from devenv.build import runner; runner.main(sys.argv[1:])"
)

_Reply = dict[str, Any]


class Gone(errors.BuildError):
    """The runner has ended, because it was told to or was killed: what ran in it is gone, too."""

    code = "build-ended"
    told = False  # to go: then it has cleared up behind itself


class Exit(NamedTuple):
    code: int
    out_of_memory: bool


class Running:
    """Safe for threads. Started when it is first used."""

    def __init__(self, where: paths.Paths) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], concurrent.futures.Future[_Reply]] = {}
        self._wire: socket.socket | None = None
        self._pid = 0
        self._closed = False
        self._told = False

    def create(self, name: str, folder: str, streams: tuple[int, int, int]) -> tuple[int, int]:
        """The pid and the start time of the step's first process, which waits for ``start``."""
        self._expect(name, "exit")
        reply = self._call(name, "create", streams, folder=folder)
        return int(reply["pid"]), int(reply["start_time"])

    def start(self, name: str) -> None:
        self._call(name, "start")

    def kill(self, name: str) -> None:
        self._call(name, "kill")

    def sweep(self, name: str) -> None:
        """The cgroup of a step that lost its runner."""
        self._call(name, "sweep")

    def wait(self, name: str) -> Exit:
        with self._lock:
            waiting = self._waiting[name, "exit"]
        found = waiting.result()
        self._forget(name, "exit")
        return Exit(int(found["code"]), bool(found["oom"]))

    def close(self) -> None:
        """Kill what runs, and wait for the runner's end."""
        with self._lock:
            self._closed = self._told = True
            wire, self._wire = self._wire, None
        if wire is not None:
            wire.shutdown(socket.SHUT_RDWR)
            os.waitpid(self._pid, 0)
            self._reader.join()
            wire.close()

    # -- the wire -------------------------------------------------------------------------------------------------

    def _call(self, name: str, operation: str, fds: tuple[int, ...] = (), **values: Any) -> _Reply:
        waiting = self._expect(name, operation)
        message = protocol.encode({"id": name, "op": operation, **values})
        with self._lock:
            wire = self._connected()
            try:
                protocol.send(wire, message, fds)
            except OSError as exc:
                raise self._gone() from exc
        try:
            reply = waiting.result()
        finally:
            self._forget(name, operation)
        if "error" in reply:
            protocol.raise_error(reply["error"])
        return reply

    def _expect(self, name: str, operation: str) -> concurrent.futures.Future[_Reply]:
        waiting: concurrent.futures.Future[_Reply] = concurrent.futures.Future()
        with self._lock:
            self._waiting[name, operation] = waiting
        return waiting

    def _forget(self, name: str, operation: str) -> None:
        with self._lock:
            del self._waiting[name, operation]

    def _connected(self) -> socket.socket:
        if self._closed:
            raise self._gone()
        if self._wire is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, protocol.KIND)
            with theirs:
                self._pid = _spawn(theirs.fileno(), f"{self._where.run}/build/cgroups.json")
            self._wire = ours
            self._reader = threading.Thread(target=self._read, args=(ours,), name="runner", daemon=True)
            self._reader.start()
        return self._wire

    def _gone(self) -> Gone:
        error = Gone("the process that runs the build's steps has ended")
        error.told = self._told
        return error

    def _read(self, wire: socket.socket) -> None:
        while True:
            try:
                packet = protocol.receive(wire)
            except (OSError, protocol.ProtocolError):
                packet = None
            with self._lock:
                if packet is None:
                    # Nothing is answered any more.
                    self._closed = True
                    for waiting in self._waiting.values():
                        if not waiting.done():
                            waiting.set_exception(self._gone())
                    return
                found = self._waiting.get((str(packet.message["id"]), str(packet.message["op"])))
            if found is not None:
                found.set_result(packet.message)


def _spawn(wire: int, place: str) -> int:
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    return os.posix_spawn(
        sealed.interpreter(),
        [sys.executable, "-I", "-S", "-c", _PROGRAM, str(wire), place],
        os.environ,
        # A dup2 onto itself takes away close-on-exec, and only in the child.
        file_actions=[(os.POSIX_SPAWN_DUP2, wire, wire)],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD],
        setsigmask=[],
    )
