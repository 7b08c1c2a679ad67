"""Attaching to a container's streams through the monitor: ``attach``, and the second half of ``run``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from devenv import errors
from devenv.cli import inventory, operate, streams, watching
from devenv.cli.display import quiet
from devenv.util import paths, terminals

if TYPE_CHECKING:
    from devenv.runtime import monitor_client

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_PATIENCE_SECONDS = 10.0  # a monitor that was killed is back within one


def run(
    project: operate.Project,
    supervisor: operate.Supervisor,
    container_id: str,
    *,
    tty: bool,
    interactive: bool,
) -> int:
    """Attach, let the container go, and return its exit code when it has ended."""
    silent = quiet.Quiet()
    with contextlib.ExitStack() as stack:
        with contextlib.closing(connect(project, events=False)) as monitor:
            ends = stack.enter_context(attached(monitor, container_id, tty=tty))
        if not tty:
            stack.enter_context(passing_signals(supervisor, container_id))
        if ends.master is not None:
            # Before the first program looks: one that draws at once draws for this size.
            terminals.copy_size(sys.stdout.fileno(), ends.master)
        operate.request(supervisor, "run_start", {"id": container_id}, show=silent)
        sys.stdout.flush()
        if tty and ends.master is not None:
            terminals.join(ends.master, source=ends.outputs[0], interactive=interactive)
        else:
            into = ends.take_stdin()
            if not interactive and into is not None:
                os.close(into)
                into = None
            targets = dict(zip(ends.outputs, (1, 2), strict=False))
            streams.carry(targets, stdin=0 if into is not None else None, into=into)
    return exit_code(project, container_id)


def exit_code(project: operate.Project, container_id: str) -> int:
    """Wait for the container's end. The streams' end comes a moment before the monitor has written it down."""
    for message in watching.changes(project):
        every = {item.record.id: item for item in inventory.load(project.where, project.identity.id)}
        item = every.get(container_id)
        if item is not None and item.has_ended:
            return 255 if item.exit_code is None else item.exit_code
        if item is None:
            event = message.get("container", {})
            code = event.get("exit_code") if event.get("id") == container_id else None
            return 255 if code is None else int(code)
    return 255


class Ends:
    """What the monitor gave: where to read what the container writes, and where to write what it reads."""

    def __init__(self, outputs: list[int], given: list[int], *, stdin_path: str, tty: bool, has_stdin: bool) -> None:
        self.outputs = outputs
        self.stdin_path = stdin_path  # the pipe's name, for whoever comes besides others
        self.master = given.pop(0) if tty and given else None
        self._stdin = given.pop(0) if has_stdin and given else None
        self._rest = given

    def take_stdin(self) -> int | None:
        """The writing end of its stdin, the caller's to close: closing it is the container's end of file."""
        taken, self._stdin = self._stdin, None
        return taken

    def close(self) -> None:
        left = [*self.outputs, *self._rest, self.master, self._stdin]
        for descriptor in left:
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def connect(project: operate.Project, *, events: bool) -> monitor_client.Monitor:
    """The project's monitor. One that was just killed is waited for: the supervisor brings it back."""
    from devenv.runtime import monitor_client

    where: paths.Paths = project.where
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return monitor_client.connect(f"{where.project_run(project.identity.id)}/monitor.sock", events=events)
        except (FileNotFoundError, ConnectionRefusedError, monitor_client.MonitorLost):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


@contextlib.contextmanager
def attached(monitor: monitor_client.Monitor, container_id: str, *, tty: bool) -> Iterator[Ends]:
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(1 if tty else 2)]
    try:
        reply = monitor.attach(container_id, tuple(write for _, write in pipes))
    except BaseException:
        for read, _ in pipes:
            os.close(read)
        raise
    finally:
        for _, write in pipes:
            os.close(write)
    ends = Ends(
        [read for read, _ in pipes],
        list(reply.fds),
        stdin_path=str(reply["stdin"]),
        tty=bool(reply["tty"]),
        has_stdin=bool(reply["stdin_writer"]),
    )
    try:
        yield ends
    finally:
        ends.close()


@contextlib.contextmanager
def passing_signals(supervisor: operate.Supervisor, container_id: str) -> Iterator[None]:
    """Signals that we get are meant for the container. (With a terminal, Ctrl-C is a byte and arrives by itself.)"""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        params = {"ids": [container_id], "signal": signal.Signals(number).name}
        with contextlib.suppress(errors.DevenvError):
            operate.request(supervisor, "kill", params, show=quiet.Quiet())

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
