"""``devenv exec``: a process in a running container, entered by this very process; no supervisor is asked.

With a terminal on stdin and stdout the process gets a pseudo-terminal of the container's own, joined to the caller's
in raw mode. Otherwise it inherits the descriptors, so that nothing stands between it and the caller's pipes; but a
terminal stays outside even then.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Annotated

import typer

from devenv.cli import context, inventory, operate, options, report, terminal
from devenv.cli import streams as carrying
from devenv.runtime import bundle, handshake, joining
from devenv.runtime import exec as runtime_exec
from devenv.util import terminals

_RUNNING = frozenset({"running"})
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def command(
    ctx: typer.Context,
    *,
    service: options.Service,
    words: Annotated[list[str], typer.Argument(metavar="COMMAND [ARGS]...", show_default=False)],
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once")] = False,
    env: options.EnvVars = None,
    index: options.Index = 0,
    privileged: Annotated[bool, typer.Option("--privileged", help="With all capabilities")] = False,
    no_tty: options.NoTty = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", hidden=True)] = False,
    interactive: Annotated[bool, typer.Option("--interactive/--no-interactive", "-i", hidden=True)] = True,
    user: options.User = "",
    workdir: options.Workdir = "",
) -> int:
    """Run a command in a running container; options come before the service's name."""
    from devenv.cli import run

    operate.refuse_dry_run(ctx.obj, "exec")
    project = context.find(ctx.obj)
    project.check_services([service])
    containers = inventory.load(project.where, project.identity.id)
    container = inventory.pick(containers, service, index, states=_RUNNING)
    has_terminal = terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stdout)
    wants_tty = not no_tty and not detach and (tty or has_terminal)
    config = bundle.load(container.folder, name=container.record.name)
    process = joining.describe(
        config,
        words,
        env={name: value for name, value in run.environment(env).items() if value is not None},
        user=user,
        workdir=workdir,
        privileged=privileged,
        tty=wants_tty,
    )
    enter = functools.partial(runtime_exec.exec_process, container.folder, config, process)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if wants_tty:
            return _with_terminal(enter, interactive=interactive)
        return _inherited(enter, detach=detach, interactive=interactive)
    except handshake.CommandError as error:
        report.show(error)
        return error.container_exit_code


def _with_terminal(enter: Callable[..., runtime_exec.Executed], *, interactive: bool) -> int:
    entered = enter(stdio=(0, 1, 2), tty=True)
    assert entered.tty_master_fd is not None
    try:
        terminals.join(entered.tty_master_fd, ended=entered.pidfd, interactive=interactive)
        return wait(entered.pid)
    finally:
        os.close(entered.tty_master_fd)
        os.close(entered.pidfd)


def _inherited(enter: Callable[..., runtime_exec.Executed], *, detach: bool, interactive: bool) -> int:
    with contextlib.ExitStack() as ours:
        with contextlib.ExitStack() as passed:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            passed.callback(os.close, null)
            streams = [null] * 3 if detach else [0 if interactive else null, 1, 2]
            typed = _pipe_in(streams, passed)
            outputs = _pipes_out(streams, ours, passed)
            entered = enter(stdio=tuple(streams), tty=False)
        ours.callback(os.close, entered.pidfd)
        if detach:
            return 0
        with _passing_signals(entered.pidfd):
            carrying.carry(outputs, stdin=None if typed is None else 0, into=typed, ended=entered.pidfd)
            return wait(entered.pid)


def _pipe_in(streams: list[int], passed: contextlib.ExitStack) -> int | None:
    """Where to write what is typed. A terminal of the host's is never handed in: whoever holds it reads what the user
    types after the command has ended, and may write in the user's name (TIOCSTI)."""
    if not os.isatty(streams[0]):
        return None
    streams[0], write = os.pipe2(os.O_CLOEXEC)
    passed.callback(os.close, streams[0])
    return write


def _pipes_out(streams: list[int], ours: contextlib.ExitStack, passed: contextlib.ExitStack) -> dict[int, int]:
    """Each pipe's reading end, and the terminal that it stands for."""
    found = {}
    for number in (1, 2):
        if os.isatty(streams[number]):
            read, write = os.pipe2(os.O_CLOEXEC)
            found[read], streams[number] = streams[number], write
            ours.callback(os.close, read)
            passed.callback(os.close, write)
    return found


@contextlib.contextmanager
def _passing_signals(pidfd: int) -> Iterator[None]:
    """Whoever interrupts us means the process in the container."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(pid: int) -> int:
    """The exit code as shells have it: 128 and the signal for one that was killed."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
