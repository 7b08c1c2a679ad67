"""The preloaded parent: forks the supervisor, and a child for every command that comes in by ``command.sock``.

A command that is forked from here has everything imported already, so it starts in milliseconds where a fresh
interpreter needs hundreds. It runs with the caller's arguments, environment, folder, umask and descriptors (by
SCM_RIGHTS); the caller (``devenv.entry``) only passes signals on and waits for the exit code. A zygote serves any
project: it knows nothing but code.

It stays single-threaded, because it forks. Its two other duties: fork the supervisor again when that has died, and
end when the supervisor says (by exit code 0) that the project has nothing left to supervise.

    caller                         zygote                       child
      | -- request, fds 0 1 2 ------> |                            |
      |                               | -- fork -----------------> |
      | <------------- its pid (4 B) -+                            | runs the command
      | -- signals by kill(2) -----------------------------------> |
      | <------------------------------------ exit code (4 B) -----+
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import io
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from devenv import errors
from devenv.supervisor import engine, protocol
from devenv.util import identity, lock, paths, sockets

_REQUEST_LIMIT = 4 * 1024 * 1024  # arguments and environment; the kernel's own limit is ARG_MAX, 2 MiB
_LEAVING = 15.0  # seconds that one which is about to leave may take: its helpers end with it
_QUICK_DEATH = 5.0  # seconds; a supervisor that died sooner is started again with a growing delay


def main(project: identity.Project, where: paths.Paths, *, ready: int | None) -> NoReturn:
    """Never returns. ``ready`` is where the supervisor reports that it answers."""
    folder = where.project_run(project.id)
    held = lock.acquire(f"{folder}/zygote.lock", wait=False)
    deadline = time.monotonic() + _LEAVING
    while held is None:
        # Somebody was faster, as the monitor may be, and serves us as well; or one is just about to leave.
        if engine.answers(project, where):
            if ready is not None:
                engine.tell(ready, {"ok": True})
            os._exit(0)
        if time.monotonic() > deadline:
            raise errors.SupervisorError(
                "a supervisor of this project neither answers nor ends", hint=f"its log: {folder}/supervisor.log"
            )
        time.sleep(0.01)
        held = lock.acquire(f"{folder}/zygote.lock", wait=False)
    zygote = _Zygote(project, where, held)
    try:
        zygote.run(ready)
    except BaseException:  # noqa: BLE001
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


class _Zygote:
    def __init__(self, project: identity.Project, where: paths.Paths, held: int) -> None:
        self._project = project
        self._where = where
        self._held = held
        self._engine = engine.register_engine(where)
        self._folder = where.project_run(project.id)
        self._workers: dict[int, socket.socket] = {}
        self._supervisor = 0
        self._started = 0.0
        self._delay = 0.1
        # The supervisor reads the other end: end of file tells it that the zygote is gone.
        self._alive_read, self._alive_write = os.pipe2(os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()

    def run(self, ready: int | None) -> None:
        self._listener = sockets.listen(f"{self._folder}/command.sock")
        self._listener.setblocking(False)
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = (wake_read, wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(wake_write)
        self._fork_supervisor(ready)
        preload()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(wake_read, selectors.EVENT_READ, self._on_signal)
        self._running = True
        self._serve(lambda: self._running)
        self._stop_listening()
        # The commands that run already have this process to report their end to; one of them may be an `up`, which
        # starts the next zygote.
        self._serve(lambda: bool(self._workers))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._engine)

    def _serve(self, wanted: Callable[[], bool]) -> None:
        while wanted():
            for key, _ in self._selector.select():
                key.data()

    def _stop_listening(self) -> None:
        """Callers that come from here on, or wait to be accepted, take the slow way; a next zygote may begin."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._folder}/command.sock")
        self._selector.unregister(self._listener)
        self._listener.close()
        os.close(self._held)

    # -- children ---------------------------------------------------------------------------------------------

    def _fork(self, body: Callable[[], None]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._alive_write)
            os.close(self._held)
            self._listener.close()
            self._selector.close()
            for descriptor in self._wake:
                os.close(descriptor)
            body()
        except BaseException:  # noqa: BLE001  a forked child must never return into the zygote's loop
            import traceback

            traceback.print_exc()
            os._exit(70)
        os._exit(0)

    def _fork_supervisor(self, ready: int | None) -> None:
        def body() -> None:
            from devenv.supervisor import server

            server.main(self._project, self._where, ready=ready, zygote=self._alive_read)

        self._started = time.monotonic()
        # Nothing that is there now ever goes. The collector would touch it all, and so copy it into the supervisor.
        gc.freeze()
        self._supervisor = self._fork(body)
        if ready is not None:
            os.close(ready)

    def _on_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self._wake[0], 4096)
            if signal.SIGTERM in numbers:
                self._running = False
                return
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped(pid, os.waitstatus_to_exitcode(status))

    def _reaped(self, pid: int, code: int) -> None:
        if pid != self._supervisor:
            self._finish_worker(pid, code)
            return
        if code == 0 or not self._running:
            self._running = False
            return
        if time.monotonic() - self._started > _QUICK_DEATH:
            self._delay = 0.1
        print(f"the supervisor ended with {code}; starting it again in {self._delay:.1f} s", file=sys.stderr)
        time.sleep(self._delay)
        self._delay = min(self._delay * 2, 5.0)
        self._fork_supervisor(None)

    # -- commands ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection.settimeout(2.0)
        if not protocol.same_user(connection):
            connection.close()
            return
        try:
            request, descriptors = _receive(connection)
        except (OSError, ValueError, EOFError):
            connection.close()
            return
        try:
            fields = request.split(b"\0")
            if fields[0] != protocol.VERSION.encode():
                # An upgraded command: it takes the slow way, which replaces this supervisor.
                return
            pid = self._fork(lambda: _run_command(connection, fields, descriptors, self._where))
            connection.sendall(pid.to_bytes(4, "little"))
            connection.setblocking(False)
            self._workers[pid] = connection
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._hung_up(pid))
        except OSError:
            connection.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _hung_up(self, pid: int) -> None:
        """The caller was killed (a signal that it outlives, it passes on; nothing but its end is ever read here).

        So is its other half: at a SIGHUP an attached `up` would take the containers along.
        """
        connection = self._workers.pop(pid, None)
        if connection is None:
            return  # the command ended by itself in the same moment, which was heard of first
        self._selector.unregister(connection)
        connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _finish_worker(self, pid: int, code: int) -> None:
        connection = self._workers.pop(pid, None)
        if connection is None:
            return
        self._selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.send((code if code >= 0 else 128 - code).to_bytes(4, "little"))
        connection.close()


def _program() -> Any:
    """The command line. Named, not imported: it stands above the supervisor, and is what forks are made for."""
    return importlib.import_module("devenv.cli.app")


def preload() -> None:
    """Import what commands need, and keep the collector from touching (and so copying) it in every child."""
    try:
        _program().preload()
    except Exception as exc:  # noqa: BLE001
        # A command that can't be imported says so itself when it is called; the others are served.
        print(f"preloading: {type(exc).__name__}: {exc}", file=sys.stderr)
    gc.collect()
    gc.freeze()


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """The request and its three descriptors: four bytes of length, then NUL-separated fields."""
    numbers = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(3 * numbers.itemsize))
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
    descriptors = list(numbers)
    try:
        if len(descriptors) != 3 or len(data) < 4:
            raise ValueError("not a command")
        length = int.from_bytes(data[:4], "little")
        if length > _REQUEST_LIMIT:
            raise ValueError("too long")
        chunks, missing = [data[4:]], length - (len(data) - 4)
        while missing > 0:
            chunk = connection.recv(min(missing, 65536))
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            missing -= len(chunk)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return b"".join(chunks), descriptors


def _run_command(connection: socket.socket, fields: list[bytes], descriptors: list[int], where: paths.Paths) -> None:
    """In the forked child: become the caller's command."""
    connection.close()
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        if descriptor > 2:
            os.close(descriptor)
    _, umask, folder, count = fields[:4]
    arguments = fields[4 : 4 + int(count)]
    os.environb.clear()
    for item in fields[4 + int(count) :]:
        name, _, value = item.partition(b"=")
        os.environb[name] = value
    # In a user namespace the user looks like root, so nothing may be guessed from the uid.
    os.environ.setdefault("DEVENV_DATA_HOME", where.data)
    os.environ.setdefault("DEVENV_RUNTIME_DIR", where.run)
    os.umask(int(umask))
    os.chdir(folder)
    sys.argv[1:] = [os.fsdecode(argument) for argument in arguments]
    sys.stdin = _text(0, "r")
    sys.stdout = _text(1, "w")
    sys.stderr = _text(2, "w")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os._exit(_program().main(sys.argv[1:]))


def _text(descriptor: int, mode: str) -> io.TextIOWrapper:
    raw = open(descriptor, mode + "b", closefd=False)
    line_buffering = mode == "w" and (descriptor == 2 or os.isatty(descriptor))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", line_buffering=line_buffering)
