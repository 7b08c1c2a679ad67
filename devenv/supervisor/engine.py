"""What it takes to be one of a project's engines, the zygote or the supervisor: leave the caller behind, enter the
user's namespace, be found by those that come later, and say when one answers.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from devenv.supervisor import protocol
from devenv.util import identity, paths, sockets


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
    """As an ordinary user: into a cgroup of one's own, and into the namespace as ``share_user_namespace`` does."""
    if os.geteuid() != 0:
        from devenv.runtime import delegation

        lack = delegation.enter(project.id)
        if lack:
            sys.stderr.write(f"containers have no cgroup: {lack}\n")
    share_user_namespace(where)


def share_user_namespace(where: paths.Paths) -> None:
    """As an ordinary user: into the user namespace of the engines that run already, or into a new one. For commands
    that write images, too, and start nothing.

    Inside we look like root, so both trees are named in the environment first.
    """
    os.environ["DEVENV_DATA_HOME"], os.environ["DEVENV_RUNTIME_DIR"] = where
    if os.geteuid() == 0:
        return
    from devenv.runtime import rootless

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
