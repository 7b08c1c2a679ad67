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
import socket
import sys
from typing import Any, NamedTuple, NoReturn

from devenv import errors
from devenv.supervisor import engine, protocol
from devenv.util import identity, lock, paths


def ensure(project: identity.Project, where: paths.Paths) -> None:
    """Returns when the project's supervisor answers. Raises ``SupervisorError`` or ``HostError``."""
    make_folders(where, where.project_run(project.id))
    if engine.answers(project, where):
        return
    with lock.held(f"{where.project_run(project.id)}/launch.lock"):
        if not engine.answers(project, where):
            _launch(project, where)


def make_folders(where: paths.Paths, *more: str) -> None:
    """Both trees, and ``more`` below them. Raises ``HostError``."""
    try:
        paths.prepare(where)
        for folder in more:
            os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as exc:
        raise errors.HostError(
            f"can't make devenv's own folders: {exc.strerror}: `{exc.filename}`",
            hint="set DEVENV_DATA_HOME and DEVENV_RUNTIME_DIR to folders of your own",
        ) from exc


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
    from devenv.linux import sealed

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
        engine.tell(wire.fileno(), {"error": protocol.error_to_json(exc)})
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
    engine.detach(f"{where.project_run(project.id)}/supervisor.log", keep=wire.fileno())
    engine.enter_user_namespace(where, project)
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
