"""The supervisor's side of the monitor's socket: calls that block, events that wait for whoever polls.

Two connections, so that an event never stands between a request and its reply: one for calls, behind a lock (any thread
may call), and one that has subscribed. An asyncio program does ``loop.add_reader(monitor.fileno(), …)`` and calls
``poll`` there.

On the second one come also, for the one who says so, the descriptors that a next monitor can't get by
itself (the *escrow*): each container's pidfd, which keeps its exit code readable after it was reaped, the reading ends
of its pipes, which keep what is in them, and the master of its terminal. ``ensure`` hands them to the next monitor.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
from typing import Any

from devenv import errors
from devenv.linux import sealed
from devenv.runtime import protocol
from devenv.util import lock, paths, sockets

CALL_SECONDS = 60.0
_START_SECONDS = 15.0
_ATTEMPTS = 5
# The repository's or the installation's root, for an interpreter that reads neither PYTHONPATH nor site-packages.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PROGRAM = (
    "import sys; sys.path.insert(0, {root!r}); from devenv.linux import sealed; sealed.ensure(); "
    "from devenv.runtime import monitor; monitor.main(sys.argv[1:])"
)

Escrow = dict[str, dict[str, int]]


class Reply:
    __slots__ = ("fds", "values")

    def __init__(self, values: dict[str, Any], fds: tuple[int, ...]) -> None:
        self.values = values
        self.fds = fds  # the caller's to close

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


class MonitorLost(errors.ContainerError):
    """It has gone in the middle of a call: whether the call was carried out is to be seen on the disk."""

    code = "monitor-lost"


class Monitor:
    """Made by ``connect`` or ``ensure``."""

    def __init__(self, calls: socket.socket, events: socket.socket | None) -> None:
        self._calls = calls
        self._events = events
        self._lock = threading.Lock()
        self._seq = 0
        self._escrow: Escrow = {}
        self._pending: list[protocol.Message] = []
        self.hello: dict[str, Any] = {}

    # -- calls --

    def call(
        self, operation: str, fds: tuple[int, ...] = (), *, timeout: float = CALL_SECONDS, **parameters: Any
    ) -> Reply:
        """Raises what the monitor answers: ``ContainerError``, ``HostError``, with its hint; or ``MonitorLost``."""
        with self._lock:
            self._seq += 1
            return _call(self._calls, {"op": operation, "seq": self._seq, **parameters}, fds, timeout)

    def create(self, container_id: str, **options: Any) -> int:
        return int(self.call("create", id=container_id, **options)["pid"])

    def start(self, container_id: str) -> None:
        self.call("start", id=container_id)

    def kill(self, container_id: str, signal: str | int = "SIGKILL", *, everyone: bool = False) -> None:
        self.call("kill", id=container_id, signal=str(signal), all=everyone)

    def pause(self, container_id: str) -> None:
        self.call("pause", id=container_id)

    def resume(self, container_id: str) -> None:
        self.call("resume", id=container_id)

    def delete(self, container_id: str, *, force: bool = False) -> None:
        self.call("delete", id=container_id, force=force)

    def exec(
        self,
        container_id: str,
        process: dict[str, Any],
        stdio: tuple[int, int, int],
        *,
        tty: bool = False,
        bound: bool = False,
    ) -> Reply:
        """``{"pid", "exec"}``, and the pty's master with ``tty``. ``bound``: it is killed when we disconnect.

        Its end comes as ``{"event": "exec_exit", "exec": n, "exit_code": …}``, which may come before this returns.
        """
        return self.call("exec", stdio, id=container_id, process=process, tty=tty, bound=bound)

    def exec_kill(self, execution: int, signal: str | int = "SIGKILL") -> None:
        self.call("exec_kill", exec=execution, signal=str(signal))

    def attach(self, container_id: str, outputs: tuple[int, ...] = ()) -> Reply:
        """``{"tty", "stdin": path, "stdin_writer"}`` and descriptors: the terminal's master, or stdin's only writer.

        ``outputs``: the writing ends of one or two pipes, which get what the container prints from now on.
        """
        return self.call("attach", outputs, id=container_id)

    def resize(self, container_id: str, *, rows: int, cols: int) -> None:
        self.call("resize", id=container_id, rows=rows, cols=cols)

    def containers(self) -> dict[str, Any]:
        return dict(self.call("list")["containers"])

    def shutdown(self) -> None:
        self.call("shutdown")

    def bye(self) -> None:
        """For a supervisor that goes on purpose: the monitor doesn't bring it back."""
        self.call("bye")

    # -- events --

    def fileno(self) -> int:
        """Readable when ``poll`` has something, also that the monitor has gone."""
        return self._events.fileno() if self._events is not None else -1

    def poll(self) -> list[protocol.Message]:
        """What has happened, without waiting. The last is ``{"event": "lost"}`` once the monitor has gone."""
        found, self._pending = self._pending, []
        while self._events is not None and self._events.fileno() >= 0:
            try:
                packet = protocol.receive(self._events)
            except BlockingIOError:
                break
            except (OSError, protocol.ProtocolError):
                packet = None
            if packet is None:
                found.append({"event": "lost"})
                break
            if packet.message.get("event") == "escrow":
                self._keep(packet)
                continue
            protocol.close_all(packet.fds)
            if packet.message.get("event") == "exit":
                self._release(str(packet.message.get("id")))
            found.append(packet.message)
        return found

    def wait(self, seconds: float) -> list[protocol.Message]:
        """``poll``, after waiting for something to come. For programs without a loop."""
        if self._events is not None:
            poll = select.poll()
            poll.register(self._events, select.POLLIN)
            poll.poll(seconds * 1000)
        return self.poll()

    def subscribe(self, *, escrow: bool = False) -> None:
        if self._events is not None:
            _call(self._events, {"op": "subscribe", "seq": 0, "escrow": escrow}, (), CALL_SECONDS)
            self._events.setblocking(False)

    def take_escrow(self) -> Escrow:
        """For ``ensure`` of the next monitor. They are the caller's from now on."""
        self.poll()
        taken, self._escrow = self._escrow, {}
        return taken

    def close(self) -> None:
        self._calls.close()
        if self._events is not None:
            self._events.close()
        for name in list(self._escrow):
            self._release(name)

    def _keep(self, packet: protocol.Packet) -> None:
        name = str(packet.message["id"])
        self._release(name)
        kinds = [str(kind) for kind in packet.message["kinds"]]
        self._escrow[name] = dict(zip(kinds, packet.fds, strict=True))

    def _release(self, name: str) -> None:
        protocol.close_all(list(self._escrow.pop(name, {}).values()))


def _call(connection: socket.socket, request: protocol.Message, fds: tuple[int, ...], timeout: float) -> Reply:
    try:
        connection.settimeout(timeout)
        protocol.send(connection, protocol.encode(request), fds)
        while True:
            packet = protocol.receive(connection)
            if packet is None:
                raise MonitorLost("the monitor has gone away", hint="run the command again")
            if packet.message.get("seq") == request["seq"] or (
                "seq" not in packet.message and "error" in packet.message
            ):
                break
            protocol.close_all(packet.fds)  # the reply to a call that was given up
    except TimeoutError:
        raise MonitorLost(f"the monitor doesn't answer `{request['op']}` within {timeout:g} s") from None
    except (OSError, protocol.ProtocolError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise MonitorLost(f"the monitor can't be reached: {reason}", hint="run the command again") from exc
    if "error" in packet.message:
        protocol.close_all(packet.fds)
        protocol.raise_error(packet.message["error"])
    return Reply(packet.message, packet.fds)


def connect(path: str, *, role: str = "client", events: bool = True) -> Monitor:
    """``FileNotFoundError`` or ``ConnectionRefusedError`` when there is none."""
    calls = sockets.connect(path, kind=protocol.KIND)
    try:
        second = sockets.connect(path, kind=protocol.KIND) if events else None
    except BaseException:
        calls.close()
        raise
    monitor = Monitor(calls, second)
    try:
        monitor.hello = monitor.call("hello", role=role).values
        if events:
            monitor.subscribe(escrow=role == "supervisor")
    except BaseException:
        monitor.close()
        raise
    return monitor


def ensure(
    where: paths.Paths,
    project_id: str,
    respawn: list[str] | None = None,
    *,
    role: str = "supervisor",
    escrow: Escrow | None = None,
    idle_seconds: float | None = None,
) -> Monitor:
    """The project's monitor, started if there is none. ``escrow`` is closed here, whoever the monitor is.

    However many call this at once, one of them starts it and the others wait for that one.
    """
    folder = where.project_run(project_id)
    escrow = escrow or {}
    os.makedirs(folder, mode=0o700, exist_ok=True)
    starting = lock.acquire(f"{folder}/monitor-start.lock", wait=True)
    try:
        for _ in range(_ATTEMPTS):
            try:
                monitor = connect(f"{folder}/monitor.sock", role=role)
            except (FileNotFoundError, ConnectionRefusedError, MonitorLost):
                _start(where, folder, respawn or [], escrow, idle_seconds)
                continue
            if _left_behind(monitor):
                monitor.close()
                continue
            _return_terminals(monitor, escrow)
            return monitor
    finally:
        if starting is not None:
            os.close(starting)
        for fds in escrow.values():
            protocol.close_all(list(fds.values()))
    raise MonitorLost("the monitor doesn't start", hint=f"look into `{folder}/monitor.log`")


def _left_behind(monitor: Monitor) -> bool:
    """Whether it belonged to an engine in another user namespace, whose containers we may not touch; then it is ended.

    With containers it stays as it is: the next engine joins their namespace.
    """
    if monitor.hello["user_namespace"] == os.stat("/proc/self/ns/user").st_ino or monitor.hello["containers"]:
        return False
    monitor.shutdown()
    return True


def _start(where: paths.Paths, folder: str, respawn: list[str], escrow: Escrow, idle_seconds: float | None) -> None:
    """Wait until it listens, or until it says that another one has the lock; the caller tries to connect then."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    options = ["--project-run", folder, "--data", where.data, "--run", where.run, "--ready-fd", str(writer)]
    if respawn:
        options += ["--respawn-supervisor", json.dumps(respawn)]
    if escrow:
        options += ["--escrow", json.dumps(escrow)]
    if idle_seconds is not None:
        options += ["--idle-seconds", str(idle_seconds)]
    passed = [writer, *(descriptor for fds in escrow.values() for descriptor in fds.values())]
    try:
        pid = os.posix_spawn(
            sealed.interpreter(),
            [sys.executable, "-I", "-S", "-c", _PROGRAM.format(root=_ROOT), *options],
            os.environ,
            # A dup2 onto itself takes away close-on-exec, and only in the child.
            file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, descriptor) for descriptor in passed],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD],
            setsigmask=[],
        )
    finally:
        os.close(writer)
    try:
        # It forks once and goes, so that nobody has a monitor for a child.
        os.waitpid(pid, 0)
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        if not poll.poll(_START_SECONDS * 1000):
            raise MonitorLost(f"the monitor doesn't start within {_START_SECONDS:g} s")
        os.read(reader, 64)
    finally:
        os.close(reader)


def _return_terminals(monitor: Monitor, escrow: Escrow) -> None:
    """A monitor that someone else started has got no terminals; those it has, it keeps."""
    for name, fds in escrow.items():
        if "terminal" in fds:
            try:
                monitor.call("adopt_tty", (fds["terminal"],), id=name)
            except errors.ContainerError:
                continue  # the container has ended meanwhile
