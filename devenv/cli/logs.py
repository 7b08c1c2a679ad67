"""``devenv logs``: read from disk, so it works with no supervisor, also for containers that have ended."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import context, formats, inventory, logfilter, logview, options, terminal
from devenv.runtime import logs as logs_module

# How often to look for containers that have been made since.
_LOOK_AGAIN = 1.0


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the containers stop")] = False,
    tail: Annotated[str, typer.Option("--tail", "-n", metavar="LINES", help="Lines from the end of each log")] = "all",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="Only lines after a time, or 10m for ago")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Only lines before a time")] = "",
    timestamps: options.Timestamps = False,
    no_color: options.NoColor = False,
    no_log_prefix: options.NoLogPrefix = False,
    index: options.Index = 0,
    grep: Annotated[
        str, typer.Option("--grep", metavar="PATTERN", help="Only lines that a regular expression is found in")
    ] = "",
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="With --grep: A is a, too")] = False,
) -> None:
    """Show the output of services."""
    given: options.Globals = ctx.obj
    now = time.time()
    wanted = _Wanted(
        since=formats.moment(since, now=now, option="--since") if since else None,
        until=formats.moment(until, now=now, option="--until") if until else None,
        tail=_tail(tail),
    )
    project = context.find(given)
    names = project.check_services(services)
    if index and len(names) != 1:
        raise errors.UsageError("`--index` goes with exactly one service")
    printer = logview.Printer(
        colour=not no_color and terminal.wants_colour(sys.stdout, given.ansi),
        prefix=not no_log_prefix,
        timestamps=timestamps,
        # Whoever searches logs wants all of them: what a service wrote to its stderr is data here as well.
        stderr=sys.stdout,
    )
    show = (
        logfilter.Filter(logfilter.pattern(grep, ignore_case=ignore_case), printer.line).line if grep else printer.line
    )
    source = Source(project, names, index)
    containers = source.look()
    printer.know(containers)
    if follow:
        _follow(source, printer, show, wanted)
        return
    by_id = {item.record.id: item for item in containers}
    folders = {item.record.id: item.folder for item in containers}
    lines = logs_module.merge(folders, since=wanted.since, until=wanted.until, tail=wanted.tail)
    for key, line in lines:
        show(by_id[key], line)
    printer.end()


class _Wanted:
    def __init__(self, *, since: float | None, until: float | None, tail: int | None) -> None:
        self.since = since
        self.until = until
        self.tail = tail


def _tail(text: str) -> int | None:
    if text in {"all", "-1"}:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise errors.UsageError(f"`--tail {text}` is no number of lines", hint="write a number, or all")
    return int(text)


class Source:
    """The containers whose logs are asked for; more of them may turn up while following."""

    def __init__(self, project: context.Found, services: list[str], index: int) -> None:
        self._project = project
        self._services = services
        self._index = index
        self._names: list[str] | None = None

    def look(self) -> list[inventory.Container]:
        every = inventory.load(self._project.where, self._project.identity.id)
        return [
            item
            for item in inventory.of_services(every, self._services)
            # One-offs belong to whoever runs them.
            if not item.record.oneoff and (not self._index or item.record.number == self._index)
        ]

    def has_changed(self) -> bool:
        """Whether containers have come or gone since it was asked last."""
        try:
            names = sorted(os.listdir(f"{self._project.where.data}/containers"))
        except FileNotFoundError:
            names = []
        changed, self._names = names != self._names, names
        return changed


def _follow(source: Source, printer: logview.Printer, show: logfilter.Show, wanted: _Wanted) -> None:
    follower = logs_module.Follower(since=wanted.since, until=wanted.until, tail=wanted.tail)
    known: dict[str, inventory.Container] = {}
    try:
        while wanted.until is None or time.time() <= wanted.until:
            ended = False
            if source.has_changed():
                for item in source.look():
                    if item.record.id not in known:
                        # What a container made later writes is new from its first line on.
                        printer.know([item])
                        follower.add(item.record.id, item.folder)
                        known[item.record.id] = item
            if all(follower.stopped(key) for key in follower.keys()):  # noqa: SIM118  not a dict
                # The policy may bring one back, which its own state doesn't tell.
                ended = not any(item.state in inventory.ACTIVE for item in source.look())
            for key, line in follower.read():
                show(known[key], line)
            if ended and not follower.behind:
                return
            printer.flush()
            follower.wait(_LOOK_AGAIN)
    finally:
        follower.close()
        printer.end()
