"""``devenv attach``: this terminal joined to that of a running container, or its standard streams to ours.

The monitor copies what the container prints to each who is attached, and gives the terminal's master to whoever
types. Leaving, by the detach keys or in whatever way, ends nothing. The exit code is the container's when it ends,
by the monitor's own word: a policy may start it again before anybody could look.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from devenv import errors
from devenv.cli import attachment, containing, context, inventory, operate, options, streams, terminal
from devenv.util import detaching, paths, terminals

if TYPE_CHECKING:
    from devenv.runtime import monitor_client

_RUNNING = frozenset({"running"})
_LOOK_SECONDS = 60.0

_DetachKeys = Annotated[
    str, typer.Option("--detach-keys", metavar="KEYS", help=f"Keys that leave it; {detaching.DEFAULT} if none")
]
_NoStdin = Annotated[bool, typer.Option("--no-stdin", help="Only show what it prints")]
_SigProxy = Annotated[bool, typer.Option("--sig-proxy/--no-sig-proxy", help="Pass signals on to it")]


class _Manner(NamedTuple):
    keys: str
    stdin: bool
    sig_proxy: bool


def command(
    ctx: typer.Context,
    *,
    service: options.Service,
    detach_keys: _DetachKeys = "",
    index: options.Index = 0,
    no_stdin: _NoStdin = False,
    sig_proxy: _SigProxy = True,
) -> int:
    """Join the terminal, or the standard streams, of a service's running container."""
    operate.refuse_dry_run(ctx.obj, "attach")
    manner = _Manner(detach_keys or detaching.DEFAULT, not no_stdin, sig_proxy)
    project = context.find(ctx.obj)
    project.check_services([service])
    containers = inventory.load(project.where, project.identity.id)
    return _attach(project, inventory.pick(containers, service, index, states=_RUNNING), manner)


def by_name(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", show_default=False)],
    detach_keys: _DetachKeys = "",
    no_stdin: _NoStdin = False,
    sig_proxy: _SigProxy = True,
) -> int:
    """Join the terminal, or the standard streams, of a running container of any project."""
    operate.refuse_dry_run(ctx.obj, "container attach")
    manner = _Manner(detach_keys or detaching.DEFAULT, not no_stdin, sig_proxy)
    where = paths.locate()
    item = containing.find(inventory.load(where), name)
    if item.state not in _RUNNING:
        raise errors.ContainerError(f"container `{item.record.name}` is not running: it is {item.state}")
    return _attach(containing.Home(where, item), item, manner)


def _attach(project: operate.Project, item: inventory.Container, manner: _Manner) -> int:
    keys = detaching.parse(manner.keys)
    record = item.record
    stdin = manner.stdin and _takes_input(item)
    supervisor = operate.ensure(project)  # which also sees to it that there is a monitor
    with contextlib.ExitStack() as stack:
        monitor = stack.enter_context(contextlib.closing(attachment.connect(project, events=True)))
        end = _End(monitor, record.id)
        ends = stack.enter_context(attachment.attached(monitor, record.id, tty=record.tty))
        if ends.master is not None:
            if stdin:
                print(f"Attached to {item.label}; {manner.keys} detaches", file=sys.stderr, flush=True)
            terminals.ask_to_redraw(1, ends.master)
            if terminals.join(
                ends.master, source=ends.outputs[0], interactive=stdin, keys=keys if stdin else b"", also=end.listening
            ):
                print(f"\nDetached from {item.label}, which runs on", file=sys.stderr)
                return 0
            return end.wait()
        if manner.sig_proxy:
            stack.enter_context(attachment.passing_signals(supervisor, record.id))
        into = _open_stdin(item, ends) if stdin else None
        targets = dict(zip(ends.outputs, (1, 2), strict=True))
        streams.carry(targets, stdin=None if into is None else 0, into=into, also=end.listening)
        return end.wait()


def _takes_input(item: inventory.Container) -> bool:
    record = item.record
    if record.tty and not terminal.is_terminal(sys.stdin):
        raise errors.UsageError(
            f"`{item.label}` has a terminal, and can't be typed to from what is none",
            hint="`--no-stdin` shows what it prints; `devenv exec -T` runs a command that reads a pipe",
        )
    if not record.tty and not record.stdin_open:
        terminal.warn(f"`{item.label}` is given no input: `stdin_open: true` or `tty: true` in its service opens it")
        return False
    return True


def _open_stdin(item: inventory.Container, ends: attachment.Ends) -> int:
    """An end of our own: it closes with us, and the container's input stays open for the next one."""
    try:
        return os.open(ends.stdin_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as exc:
        raise errors.ContainerError(
            f"the input of `{item.label}` is not open any more: {exc.strerror}",
            hint=f"`--no-stdin` shows what it prints; `devenv restart {item.record.service}` opens it anew",
        ) from exc


class _End:
    """How this run of the container ends. What the monitor tells of others is read all the time and let go: it cuts
    off who doesn't listen."""

    def __init__(self, monitor: monitor_client.Monitor, container_id: str) -> None:
        self._monitor = monitor
        self._id = container_id
        self._seen: dict[str, Any] | None = None

    @property
    def listening(self) -> Mapping[int, Callable[[], bool]]:
        return {self._monitor.fileno(): lambda: self._take(self._monitor.poll())}

    def _take(self, messages: list[dict[str, Any]]) -> bool:
        for message in messages:
            if message["event"] == "lost" or (message["event"] == "exit" and message["id"] == self._id):
                self._seen = self._seen or message
        return self._seen is None

    def wait(self) -> int:
        """Its exit code; the streams' end comes a moment before."""
        while self._seen is None:
            self._take(self._monitor.wait(_LOOK_SECONDS))
        if self._seen["event"] == "lost":
            raise errors.ContainerError(
                "attached no more: the project's monitor has gone away",
                hint="containers run on: run the command again, and `devenv logs` shows what came meanwhile",
            )
        code = self._seen["exit_code"]
        return 255 if code is None else int(code)
