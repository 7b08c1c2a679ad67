"""Bringing a project's supervisor to life, from a command that found none.

The command forks at its very beginning (`prepare`). While it reads the spec, its child leaves the terminal and the
session and imports what a supervisor needs; told of the project, it enters a user namespace when it is not root and
becomes the zygote, whose first child is the supervisor. Its interpreter is a sealed one (``sealed``): commands that
enter containers are forked from it, and the monitor starts from the same place.

Only one process does this at a time, under ``launch.lock``; a socket between the two tells the command when the
supervisor answers, or why it could not start.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from typing import Any, NamedTuple, NoReturn

from devenv import errors
from devenv.linux import sealed
from devenv.supervisor import protocol
from devenv.util import identity, lock, paths, sockets


def ensure(project: identity.Project, where: paths.Paths) -> None:
    """Returns when the project's supervisor answers. Raises ``SupervisorError`` or ``HostError``."""
    try:
        paths.prepare(where)
        os.makedirs(where.project_run(project.id), mode=0o700, exist_ok=True)
    except OSError as exc:
        raise errors.HostError(
            f"can't make devenv's own folders: {exc.strerror}: `{exc.filename}`",
            hint="set DEVENV_DATA_HOME and DEVENV_RUNTIME_DIR to folders of your own",
        ) from exc
    if answers(project, where):
        return
    held = lock.acquire(f"{where.project_run(project.id)}/launch.lock", wait=True)
    assert held is not None
    try:
        if not answers(project, where):
            _launch(project, where)
    finally:
        os.close(held)


def answers(project: identity.Project, where: paths.Paths) -> bool:
    """A supervisor of another version is asked to make room: containers neither notice nor stop."""
    try:
        connection = sockets.connect(f"{where.project_run(project.id)}/supervisor.sock")
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    with connection, connection.makefile("rb") as lines:
        try:
            connection.sendall(protocol.encode({"op": "hello", "params": {"version": protocol.VERSION}}))
            line = lines.readline()
        except ConnectionError:
            return False
        if not line:
            return False
        if json.loads(line).get("result", {}).get("version") == protocol.VERSION:
            return True
        # It exits after this answer; the connection's end says that it has.
        lines.read()
        return False


class _Sprout(NamedTuple):
    """A process that is to become a zygote as soon as it is told of which project."""

    wire: socket.socket


_sprout: _Sprout | None = None
# Everything can be imported there that can be here, with none of what `site` does once more.
_PROGRAM = (
    "import socket, sys; sys.path[:] = {path!r}; from devenv.supervisor import launch; "
    "launch.sprout(socket.socket(fileno=int(sys.argv[1])))"
)


def prepare() -> None:
    """Have a future zygote import what a supervisor needs while this command still reads the spec.

    Both take some hundred milliseconds, and a machine has two processors. Without a word to it, it ends with us.
    """
    global _sprout  # noqa: PLW0603
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            os.setsid()
            # The second fork lets the command reap the first and leaves nobody who could gain a terminal.
            if os.fork() != 0:
                os._exit(0)
            os.set_inheritable(theirs.fileno(), True)
            program = _PROGRAM.format(path=sys.path)
            if not sealed.sealed():
                sealed.execute([sys.executable, "-I", "-S", "-c", program, str(theirs.fileno())])
            sprout(theirs)
        finally:
            os._exit(1)  # a forked child must never return into the command
    theirs.close()
    os.waitpid(child, 0)
    _sprout = _Sprout(ours)


def sprout(wire: socket.socket) -> NoReturn:
    try:
        wire.set_inheritable(False)
        _grow(wire)
    except BaseException as exc:  # noqa: BLE001  told to the command; nobody else is there to hear it
        # What it was told has to be read first: closing on unread data takes the answer away (unix(7)).
        wire.setblocking(False)
        with contextlib.suppress(OSError):
            wire.recv(65536)
        tell(wire.fileno(), {"error": protocol.error_to_json(exc)})
    finally:
        os._exit(1)


def _grow(wire: socket.socket) -> NoReturn:
    # A command that fails or finds a supervisor after all is gone before this is done, and nobody may be kept waiting
    # for the end of its output.
    log = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(log, number)
    from devenv.network import manager
    from devenv.supervisor import server as _server  # noqa: F401  for the supervisor that is forked later

    manager.preload()
    word = wire.recv(65536)
    if not word:
        os._exit(0)
    told = json.loads(word)
    project, where = identity.Project(*told["project"]), paths.Paths(*told["where"])
    detach(f"{where.project_run(project.id)}/supervisor.log", keep=wire.fileno())
    enter_user_namespace(where, project)
    from devenv.supervisor import zygote

    zygote.main(project, where, ready=wire.detach())


def _launch(project: identity.Project, where: paths.Paths) -> None:
    global _sprout
    if _sprout is None:
        prepare()
    assert _sprout is not None
    wire, _sprout = _sprout.wire, None
    with wire, wire.makefile("rb") as answer:
        try:
            wire.sendall(json.dumps({"project": project, "where": where}).encode())
            text = answer.read()
        except ConnectionError:
            text = b""
    reply: dict[str, Any] = json.loads(text) if text else {}
    if "error" in reply:
        raise protocol.RemoteError(reply["error"])
    if "ok" not in reply:
        raise errors.SupervisorError(
            "the project's supervisor died while it started",
            hint=f"its log: {where.project_run(project.id)}/supervisor.log",
        )


def argv(project: identity.Project, where: paths.Paths) -> list[str]:
    """How whoever notices that the supervisor is gone brings it back."""
    return [sys.executable, "-m", "devenv.supervisor", *project, *where]


def tell(descriptor: int, message: dict[str, Any]) -> None:
    """The one word to the waiting command. It may be gone, or have been told already."""
    try:
        os.write(descriptor, json.dumps(message).encode())
        os.close(descriptor)
    except OSError:
        pass


def detach(log: str, *, keep: int) -> None:
    """Leave everything of the caller's behind: its folder, terminal, descriptors, signal handlers and umask."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH):
        signal.signal(number, signal.SIG_DFL)
    os.chdir("/")
    os.umask(0o077)
    null = os.open("/dev/null", os.O_RDONLY)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(null, 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, keep)
    os.closerange(keep + 1, limit)
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)


def enter_user_namespace(where: paths.Paths, project: identity.Project) -> None:
    """As an ordinary user: into a cgroup of one's own, and into the user namespace of the engines that run already, or
    into a new one.

    Inside we look like root, so both trees are named in the environment first.
    """
    os.environ["DEVENV_DATA_HOME"], os.environ["DEVENV_RUNTIME_DIR"] = where
    if os.geteuid() == 0:
        return
    from devenv.runtime import delegation, rootless

    lack = delegation.enter(project.id)
    if lack:
        sys.stderr.write(f"containers have no cgroup: {lack}\n")
    for pid in _engines(where):
        try:
            rootless.join(pid)
        except OSError:
            continue
        return
    rootless.enter()


def _engines(where: paths.Paths) -> list[int]:
    """Processes that live in this user's namespace: engines, and what outlived theirs (containers, netns holders)."""
    from devenv.network import rootless
    from devenv.runtime import state

    found = []
    folder = f"{where.run}/engines"
    for name in _names(folder):
        pid, _, start = name.partition("-")
        if identity.process_start_time(int(pid)) == int(start):
            found.append(int(pid))
        else:
            os.unlink(f"{folder}/{name}")
    for name in _names(f"{where.data}/containers"):
        container = state.load(where.container(name))
        if container is not None and container.pid is not None and container.status in {"running", "paused"}:
            found.append(container.pid)
    for name in _names(f"{where.run}/projects"):
        holder = rootless.load(where.project_run(name))
        if holder is not None and holder.process.alive():
            found.append(holder.process.pid)
    return found


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def register_engine(where: paths.Paths) -> str:
    """Let later commands find this process's user namespace. Returns the file to remove at the end."""
    # The pid outside: /proc is the host's, also for a process in a user namespace.
    pid = os.getpid()
    os.makedirs(f"{where.run}/engines", mode=0o700, exist_ok=True)
    path = f"{where.run}/engines/{pid}-{identity.process_start_time(pid)}"
    with open(path, "w"):
        pass
    return path
