"""Sinks of ``devenv.build.progress.Step``: how a build looks. ``choose`` picks one as ``sink`` does for events.

A ``Board`` keeps what was told, one entry a step, in the order in which steps were first heard of.
"""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from devenv.build import progress
from devenv.cli import settings
from devenv.cli.display import sink

TAIL = 6  # lines of a running step's output
ENDS = frozenset(
    {progress.State.CACHED, progress.State.DONE, progress.State.FAILED, progress.State.CANCELED},
)


class Display(Protocol):
    def tell(self, step: progress.Step) -> None:
        """May be called from threads."""

    def finish(self) -> None:
        """Leave the terminal as it was found. May be called more than once."""


class Entry:
    """One step as known by now."""

    __slots__ = ("began", "ended", "name", "number", "rest", "service", "step", "tail", "text", "warning")

    def __init__(self, number: int, step: progress.Step) -> None:
        self.number = number
        self.name = _named(step)
        self.service = step.service
        self.step = step  # the latest that says a state
        self.began = step.time
        # A warning may be all that is ever said of something.
        self.ended: float | None = step.time if step.state is progress.State.WARNING else None
        self.tail: list[str] = []
        self.rest = {False: "", True: ""}  # of a line that is not whole yet, by whether it is stderr's
        self.text = ""
        self.warning = ""

    @property
    def title(self) -> str:
        return f"{self.name}: {self.warning}" if self.warning else self.name

    @property
    def state(self) -> progress.State:
        return self.step.state

    @property
    def seconds(self) -> float:
        return max((self.ended or self.began) - self.began, 0.0)

    def take(self, step: progress.Step) -> list[str]:
        """The lines that have become whole."""
        self.name = _named(step) if step.name else self.name
        if step.state is progress.State.OUTPUT:
            return self._write(step)
        if step.state is progress.State.WARNING:
            self.warning = step.text
            return []
        if step.state is progress.State.STARTED and self.ended is not None:
            self.began, self.ended = step.time, None
        self.step, self.text = step, step.text
        if step.state not in ENDS:
            return []
        self.ended = step.time
        left = [text for text in self.rest.values() if text]
        self.rest = {False: "", True: ""}
        return left

    def _write(self, step: progress.Step) -> list[str]:
        text = self.rest[step.stderr] + step.text.replace("\r\n", "\n")
        *whole, self.rest[step.stderr] = text.split("\n")
        # A bar that redraws its line says what it is at last.
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in whole]
        self.tail = [*self.tail, *lines][-TAIL:]
        return lines


def _named(step: progress.Step) -> str:
    """`[build 2/4] RUN make` with whose it is: `[web build 2/4] RUN make`."""
    if step.service and step.name.startswith("["):
        return f"[{step.service} {step.name[1:]}"
    return step.name


class Board:
    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def take(self, step: progress.Step) -> tuple[Entry, list[str]]:
        entry = self.entries.get(step.id)
        if entry is None:
            entry = self.entries[step.id] = Entry(len(self.entries) + 1, step)
        return entry, entry.take(step)


def choose(given: settings.Globals, stream: TextIO | None = None) -> Display:
    stream = stream or sys.stderr
    kind = sink.kind(given, stream)
    if kind is settings.Progress.TTY:
        from devenv.cli import terminal
        from devenv.cli.display import steps_tty

        return steps_tty.Tty(stream, colour=terminal.wants_colour(stream, given.ansi))
    if kind is settings.Progress.JSON:
        from devenv.cli.display import steps_jsonl

        return steps_jsonl.JsonLines(stream)
    if kind is settings.Progress.QUIET:
        return Quiet()
    from devenv.cli.display import steps_plain

    return steps_plain.Plain(stream)


class Quiet:
    def tell(self, step: progress.Step) -> None:
        pass

    def finish(self) -> None:
        pass
