"""A live block of lines, one a resource.

[+] up 2/3
 ✔ Network shop_default     Created    0.0s
 ✔ Container shop-db-1      Healthy    1.2s
 ⠿ Container shop-web-1     Starting   0.3s
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from devenv import events
from devenv.cli import formats, table, terminal
from devenv.cli.display import block
from devenv.reconcile import reasons

_MARK = {
    events.Status.WORKING: ("⠿", "36"),
    events.Status.DONE: ("✔", "32"),
    events.Status.WARNING: ("!", "33"),
    events.Status.ERROR: ("✘", "31"),
}


class _Line:
    __slots__ = ("began", "ended", "event")

    def __init__(self, event: events.Event, now: float) -> None:
        self.event = event
        self.began = now
        self.ended: float | None = None


class Tty:
    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool = True,
        dry_run: bool = False,
        now: Callable[[], float] = time.monotonic,
        size: Callable[[TextIO], tuple[int, int]] = terminal.size,
        animate: bool = True,
    ) -> None:
        self._colour = colour
        self._prefix = "DRY-RUN MODE - " if dry_run else ""
        self._now = now
        self._block = block.Block(stream, self._render, self._is_busy, size=size, animate=animate)
        self._lines: dict[str, _Line] = {}
        self._title = ""

    def start(self, title: str) -> None:
        with self._block.lock:
            self._title = title

    def show(self, event: events.Event) -> None:
        with self._block.lock:
            now = self._now()
            line = self._lines.get(event.resource)
            if line is None:
                line = self._lines[event.resource] = _Line(event, now)
            elif line.ended is not None and event.status is events.Status.WORKING:
                line.began = now
            line.event = event
            line.ended = None if event.status is events.Status.WORKING else now
            self._block.draw()

    def finish(self) -> None:
        self._block.finish()
        self._lines = {}

    def _is_busy(self) -> bool:
        return any(line.ended is None for line in self._lines.values())

    def _render(self, columns: int, rows: int | None) -> list[block.Line]:
        done = sum(line.ended is not None for line in self._lines.values())
        head = table.cut(f"{self._prefix}[+] {self._title} {done}/{len(self._lines)}", columns - 1)
        rendered = [block.Line(head, head)]
        lines = list(self._lines.values())
        room = max(len(lines) if rows is None else rows - 2, 1)
        if len(lines) > room:
            # What is under way or went wrong matters more than what is done; the order stays.
            shown = sorted(lines, key=lambda line: line.event.status is events.Status.DONE)[: max(room - 1, 1)]
            lines = [line for line in lines if line in shown]
        names = [terminal.visible(line.event.resource) for line in lines]
        widest = min(max(map(table.width, names), default=0), max(columns // 2, 10))
        states = max((table.width(line.event.text) for line in lines), default=0)
        for name, line in zip(names, lines, strict=True):
            rendered.append(self._line(name, line, columns, widest, states))
        hidden = len(self._lines) - len(lines)
        if hidden:
            rendered.append(block.Line(f"   {hidden} more", f"   {hidden} more"))
        return rendered

    def _line(self, name: str, line: _Line, columns: int, widest: int, states: int) -> block.Line:
        event = line.event
        mark, code = _MARK[event.status]
        spent = formats.elapsed((self._now() if line.ended is None else line.ended) - line.began)
        name = table.pad(table.cut(name, widest), widest)
        state = table.pad(terminal.visible(event.text), states)
        tail = f"  {spent}"
        if event.total and line.ended is None:
            tail += f"  {formats.size(event.current)} of {formats.size(event.total)}"
        # Seconds that are left go by, and nobody tells it anew for each of them.
        told = reasons.details(map(reasons.from_json, event.reasons), time.time()) if event.reasons else event.details
        if told:
            tail += f"  {terminal.visible(told)}"
        plain = table.cut(f" {mark} {name}  {state}{tail}", columns - 1)
        if not self._colour:
            return block.Line(plain, plain)
        painted = f" {terminal.paint(mark, code, colour=True)} {plain[3:]}"
        if state:
            painted = painted.replace(state, terminal.paint(state, code, colour=True), 1)
        return block.Line(plain, painted)
