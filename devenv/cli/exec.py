"""``devenv exec``: a process in a running container, entered by this very process; no supervisor is asked.

With a terminal on stdin and stdout the process gets a pseudo-terminal of the container's own, joined to the caller's
in raw mode. Otherwise it inherits the descriptors, so that nothing stands between it and the caller's pipes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Annotated

import typer

from devenv.cli import context, inventory, operate, options, report, terminal, terminals
from devenv.runtime import bundle, handshake, joining
from devenv.runtime import exec as runtime_exec

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
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        stdio = (null, null, null) if detach else (0 if interactive else null, 1, 2)
        entered = enter(stdio=stdio, tty=False)
    finally:
        os.close(null)
    try:
        if detach:
            return 0
        with _passing_signals(entered.pidfd):
            select.select([entered.pidfd], [], [])
            return wait(entered.pid)
    finally:
        os.close(entered.pidfd)


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
