"""The ``devenv`` command: first the fast way, by a preloaded process that runs already, else the whole program.

Only ``sys``, ``os`` and two built-in modules are imported before the fast way has been tried: this is the part
that every ``devenv ps`` waits for. See ``devenv.supervisor.zygote`` for the other end.
"""

from __future__ import annotations

import os
import sys

from devenv.util import folders

# What looks at the machine, or runs commands on it, as the caller does: a process in a user namespace can't.
_NEVER_FAST = ("doctor", "init", "registry", "proxy", "task", "ci", "ui", "version", "--version", "-v", "--help", "-h")

# Of the options before the command.
_WITH_VALUE = frozenset(
    {"-f", "--file", "-p", "--project-name", "--project-directory", "--profile", "--env-file", "--parallel"}
    | {"--progress", "--ansi"}
)

# What will need a supervisor, where there was none a moment ago. With one of the second set nobody can tell yet.
_STARTS = frozenset({"up", "run", "create", "start", "restart"})
_ELSEWHERE = frozenset({"-f", "--file", "-p", "--project-name", "--project-directory", "--help", "-h"})


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["runtime"]:
        from devenv.oci import entry

        entry.begin(arguments[1:])
    if arguments and _command(arguments) not in _NEVER_FAST and "DEVENV_SLOW" not in os.environ:
        code = _forward(arguments)
        if code is not None:
            # Nothing was opened or buffered here, so there is nothing that an orderly shutdown would add.
            os._exit(code)
    if "exec" in arguments:
        # It enters a container by itself. (What was forwarded is carried out by a process that is sealed already.)
        from devenv.linux import sealed

        sealed.ensure()
    if _STARTS & set(arguments) and not _ELSEWHERE & set(arguments):
        from devenv.supervisor import launch

        launch.prepare()
    import gc

    # What is imported stays: looking through it again and again for what could be freed is a tenth of the start.
    gc.set_threshold(50_000)
    from devenv.cli import bare

    command = bare.find(arguments)
    if command is not None:
        os._exit(command())
    from devenv.cli import app

    # All is written out, and taking the interpreter apart piece by piece costs as much as a small command.
    os._exit(app.main(arguments))


def _command(arguments: list[str]) -> str:
    """The first word that is neither an option nor an option's value; else the first of all."""
    position = 0
    while position < len(arguments) and arguments[position].startswith("-"):
        position += 2 if arguments[position] in _WITH_VALUE else 1
    return arguments[position] if position < len(arguments) else arguments[0]


def runtime_directory() -> str:
    """As ``devenv.util.paths.locate``, whose imports cost more than the rest of the fast way."""
    run = os.environ.get("DEVENV_RUNTIME_DIR")
    if run:
        return os.path.abspath(run)
    uid = os.geteuid()
    if uid == 0:
        return "/run/devenv"
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    return f"{base}/devenv" if base and os.path.isdir(base) else f"/tmp/devenv-{uid}"


def _forward(arguments: list[str]) -> int | None:
    """The exit code, or None when no preloaded process could take the command."""
    try:
        folder = os.getcwd()
    except OSError:
        return None
    run = runtime_directory()
    if not os.path.isdir(f"{run}/folders"):
        return None
    while True:
        link = folders.link(run, folder)
        if os.path.islink(link):
            return _send(link, arguments)
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _send(link: str, arguments: list[str]) -> int | None:
    import _signal  # type: ignore[import-not-found]
    import _socket

    from devenv import __version__

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        directory = os.open(link, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        connection.connect(f"/proc/self/fd/{directory}/command.sock")
        os.close(directory)
    except OSError:
        return None
    umask = os.umask(0o077)
    os.umask(umask)
    fields = [
        f"{__version__}/1".encode(),
        str(umask).encode(),
        os.fsencode(os.getcwd()),
        str(len(arguments)).encode(),
    ]
    fields += [os.fsencode(argument) for argument in arguments]
    fields += [name + b"=" + value for name, value in os.environb.items()]
    body = b"\0".join(fields)
    request = len(body).to_bytes(4, "little") + body
    descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in _standard_descriptors())
    try:
        sent = connection.sendmsg([request[:32768]], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
        if sent < len(request):
            # Never with nothing to send: the command may be over by now, and its other end closed, which is EPIPE.
            connection.sendall(request[sent:])
        answer = connection.recv(4)
    except OSError:
        return None
    if len(answer) < 4:
        return None
    pid = int.from_bytes(answer, "little")

    def pass_on(number: int, _frame: object) -> None:
        try:
            os.kill(pid, number)
        except OSError:
            pass

    for number in (
        _signal.SIGINT,
        _signal.SIGTERM,
        _signal.SIGHUP,
        _signal.SIGQUIT,
        _signal.SIGWINCH,
        _signal.SIGUSR1,
        _signal.SIGUSR2,
    ):
        _signal.signal(number, pass_on)
    answer = connection.recv(4)
    if len(answer) == 4:
        return int.from_bytes(answer, "little")
    # Nothing but the end of the zygote itself closes the connection without a code.
    os.write(2, b"error: the process that carried this command out was killed\nhint: run the command again\n")
    return 70


def _standard_descriptors() -> list[int]:
    """0, 1 and 2, with /dev/null in place of one that the caller has closed."""
    found = []
    for number in range(3):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            found.append(os.open("/dev/null", os.O_RDWR))
    return found
