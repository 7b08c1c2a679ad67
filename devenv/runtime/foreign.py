"""Another OCI runtime in place of the built-in one, driven by its command line: ``runtime: crun`` in a service.

    monitor                     child                               runtime
      | fork ------------------> |  a mount namespace of its own,      |
      |                          |  the image mounted at rootfs/       |
      |                          |  config.json: see ``plain``         |
      |                          | create --bundle … ----------------> | forks the container's first process, which
      | <-- READY pid [+ pty] ---+ <--------------------------- exit --+ becomes the monitor's child: a subreaper's
      | fork ------------------> | start ---------------------------->
      | <-- READY ---------------+

Nobody waits for a runtime but a child made for it, so the monitor serves the others meanwhile: it reads the wire when
it becomes readable. The image is mounted in that child's namespace alone; the container's is a copy of it, and there is
nothing to unmount. What the runtime keeps is in ``<run>/oci/<id>/``, and goes with the container.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from devenv import errors
from devenv.linux import mount, namespace, process
from devenv.runtime import bundle, cgroup, handshake, init, plain, rootfs
from devenv.util import fs, identity, tree


def named(config: Any) -> str:
    """The runtime of a bundle; empty for the built-in one."""
    return str(((config or {}).get("annotations") or {}).get(bundle.RUNTIME) or "")


class Place(NamedTuple):
    """A container and the runtime that it is in the hands of."""

    program: str
    id: str
    folder: str  # the container's
    kept: str  # what the runtime needs to keep

    @property
    def log(self) -> str:
        return f"{self.kept}/log"

    def command(self, *words: str) -> list[str]:
        options = ["--root", f"{self.kept}/root", "--log", self.log, "--log-format", "json"]
        return [self.program, *options, *words]


def place(config: dict[str, Any], folder: str) -> Place:
    annotations = config["annotations"]
    return Place(annotations[bundle.RUNTIME], os.path.basename(folder), folder, annotations[bundle.RUNTIME_STATE])


class Created(NamedTuple):
    pid: int
    start_time: int
    tty_master_fd: int | None
    place: Place


class Pending:
    """A command that is under way. Made by ``create`` and ``start``."""

    def __init__(self, place: Place, pid: int, wire: socket.socket) -> None:
        self._place = place
        self._pid = pid
        self._wire = wire

    def fileno(self) -> int:
        """Readable once there is an answer."""
        return self._wire.fileno()

    def give_up(self) -> None:
        """The wire becomes readable then."""
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def finish(self) -> Created | None:
        """Raises ``ContainerError`` with what the runtime said, ``CommandError`` for what can't be executed."""
        with self._wire:
            message = handshake.expect(self._wire, handshake.Word.READY)
        if "pid" not in message.values:
            return None
        pid = int(message.values["pid"])
        master = message.fds[0] if message.fds else None
        return Created(pid, identity.process_start_time(pid) or 0, master, self._place)


def create(where: Place, config: dict[str, Any], *, stdio: tuple[int, int, int]) -> Pending:
    return _ask(where, lambda wire: _create(where, config, wire), stdio=stdio)


def start(where: Place) -> Pending:
    return _ask(where, lambda wire: _start(where, wire), stdio=None)


def delete(where: Place, path: str) -> None:
    """End what is left of the container, and the cgroups at ``path``. Nobody is told; the next ``create`` waits."""
    if not os.path.isdir(where.kept):
        cgroup.destroy(path)
        return
    # Held from this moment on, and by the child alone from the next.
    held = _lock(where, wait=False)
    pid = os.fork()
    if pid == 0:
        try:
            _settle(None, [held])
            fcntl.flock(held, fcntl.LOCK_EX)  # if it could not be had at once
            _forget(where)
            cgroup.destroy(path)
            cgroup.prune(path)
        finally:
            os._exit(0)
    os.close(held)


# -- in the child ------------------------------------------------------------------------------------------------


def _ask(where: Place, work: Callable[[socket.socket], None], *, stdio: tuple[int, int, int] | None) -> Pending:
    ours, theirs = handshake.pair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _settle(stdio, [theirs.fileno()])
            work(theirs)
        except BaseException as exc:  # noqa: BLE001  nothing may unwind into the monitor's code
            init.give_up(theirs, exc)
        os._exit(0)
    theirs.close()
    return Pending(where, pid, ours)


def _settle(stdio: tuple[int, int, int] | None, keep: list[int]) -> None:
    """Nothing of the monitor's in the hands of the runtime; and a group of its own, to be ended as a whole."""
    init.default_signals()
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    init.take_descriptors(stdio or (null, null, null), keep)


def _create(where: Place, config: dict[str, Any], wire: socket.socket) -> None:
    _lock(where, wait=True)
    _forget(where)
    os.makedirs(f"{where.kept}/bundle", mode=0o700)
    root = f"{where.folder}/rootfs"
    os.makedirs(root, exist_ok=True)
    namespace.unshare(namespace.CLONE_NEWNS)
    mount.mount("none", "/", "", mount.MS_REC | mount.MS_SLAVE)
    layout = json.loads(config["annotations"].get(bundle.ROOTFS) or "{}")
    builder = rootfs.Builder(config, layout, rootfs.Sources(config, where.folder))
    builder.mount_image()
    builder.close()
    fs.write_json(f"{where.kept}/bundle/config.json", plain.configuration(config, root=root))
    words = ["create", "--bundle", f"{where.kept}/bundle", "--pid-file", f"{where.kept}/pid"]
    listener = None
    if config["process"].get("terminal"):
        listener = _listen(f"{where.kept}/tty")
        words += ["--console-socket", f"{where.kept}/tty"]
    _run(where, [*words, where.id], wire, args=config["process"]["args"])
    with open(f"{where.kept}/pid", encoding="ascii") as file:
        pid = int(file.read())
    handshake.say(wire, handshake.Word.READY, fds=_terminal(listener), pid=pid)


def _start(where: Place, wire: socket.socket) -> None:
    config = fs.read_json(f"{where.kept}/bundle/config.json")
    _run(where, ["start", where.id], wire, args=config["process"]["args"])
    handshake.say(wire, handshake.Word.READY)


def _forget(where: Place) -> None:
    """A container of this name, if there is one, and all that was kept of it."""
    if os.path.isdir(f"{where.kept}/root"):
        _wait(_spawn(where.command("delete", "--force", where.id)))
    tree.remove(where.kept)
    try:
        os.rmdir(os.path.dirname(where.kept))
    except OSError:
        pass  # other containers'


def _lock(where: Place, *, wait: bool) -> int:
    """The container's folder is the lock: whoever has it may call the runtime. Until this process ends."""
    held = os.open(where.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        pass  # the child waits for it
    return held


def _run(where: Place, words: Sequence[str], wire: socket.socket, *, args: Sequence[str]) -> None:
    """Returns when it has gone well; else says why on ``wire`` and ends this process."""
    begun = os.path.getsize(where.log) if os.path.exists(where.log) else 0
    code = _wait(_spawn(where.command(*words)))
    if code == 0:
        return
    said = _last_error(where.log, begun) or f"it ended with code {code}"
    number = _errno(said) if "exec" in said else 0
    if number:
        _refuse(wire, command=args[0], errno=number)
    _refuse(wire, message=f"`{os.path.basename(where.program)} {words[0]}`: {said}")


def _refuse(wire: socket.socket, **values: Any) -> NoReturn:
    handshake.say(wire, handshake.Word.FAILED, **values)
    os._exit(1)


def _spawn(argv: list[str]) -> int:
    return os.posix_spawn(argv[0], argv, os.environ)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _errno(said: str) -> int:
    """That of a command that can't be executed, from the words of runtimes for it."""
    for words, number in (("not found", 2), ("no such file", 2), ("permission denied", 13), ("exec format", 8)):
        if words in said.lower():
            return number
    return 0


def _last_error(path: str, begun: int) -> str:
    """Each line is an object with ``level`` and ``msg``."""
    found = ""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(begun)
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"msg": line}
        if entry.get("level") in {None, "error", "fatal"}:
            found = str(entry.get("msg") or found)
    return found.strip()


def _listen(path: str) -> socket.socket:
    """Where a runtime sends the master of a terminal to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    return listener


def _terminal(listener: socket.socket | None) -> tuple[int, ...]:
    """The master of the container's terminal, which the runtime has sent before it ended."""
    if listener is None:
        return ()
    listener.setblocking(False)
    connection, _ = listener.accept()
    size = socket.CMSG_SPACE(array.array("i").itemsize)
    connection.setblocking(True)
    _, ancillary, _, _ = connection.recvmsg(4096, size, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(payload)
    return tuple(numbers)


# -- another process in the container ------------------------------------------------------------------------------


class Executed(NamedTuple):
    pid: int  # a child of the caller's
    pidfd: int
    tty_master_fd: int | None


def execute(where: Place, described: dict[str, Any], *, stdio: tuple[int, int, int], tty: bool) -> Executed:
    """By the runtime's own `exec`. Without a terminal it is the runtime's process that stands for the one inside."""
    config = fs.read_json(f"{where.kept}/bundle/config.json")
    # What the runtime leaves running is to be our child.
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    words = ["exec", "--process", "/proc/self/fd/3"]
    names = [f"{where.kept}/exec-{os.getpid()}-{time.monotonic_ns()}.{kind}" for kind in ("tty", "pid")]
    listener = None
    file = os.memfd_create("process", os.MFD_CLOEXEC)
    opened = [file]
    try:
        os.write(file, json.dumps(plain.process(described, config)).encode())
        if tty:
            listener = _listen(names[0])
            words += ["--detach", "--console-socket", names[0], "--pid-file", names[1]]
        for number in (*stdio, file):
            # As descriptors that none of the four dup2(2) takes the place of.
            opened.append(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 4))
        actions = [(os.POSIX_SPAWN_DUP2, source, number) for number, source in enumerate(opened[1:])]
        argv = where.command(*words, where.id)
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
        if not tty:
            return Executed(pid, os.pidfd_open(pid), None)
        code = _wait(pid)
        if code:
            raise errors.ContainerError(f"`{os.path.basename(where.program)} exec` ended with code {code}")
        with open(names[1], encoding="ascii") as pid_file:
            pid = int(pid_file.read())
        masters = _terminal(listener)
        return Executed(pid, os.pidfd_open(pid), masters[0] if masters else None)
    finally:
        if listener is not None:
            listener.close()
        for descriptor in opened:
            os.close(descriptor)
        for name in names:
            fs.remove(name)
