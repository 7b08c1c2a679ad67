"""A live block of lines, one a resource, redrawn in place.

    [+] up 2/3
     ✔ Network shop_default     Created    0.0s
     ✔ Container shop-db-1      Healthy    1.2s
     ⠿ Container shop-web-1     Starting   0.3s

A thread redraws ten times a second while something is under way, so that the times move; the size is asked for at
every draw, so a resize needs no signal handler. The block never grows taller than the terminal, since lines that
have scrolled away can't be redrawn.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TextIO

from devenv import events
from devenv.cli import formats, table, terminal

_PERIOD = 0.1
_MARK = {
    events.Status.WORKING: ("⠿", "36"),
    events.Status.DONE: ("✔", "32"),
    events.Status.WARNING: ("!", "33"),
    events.Status.ERROR: ("✘", "31"),
}
_CLEAR_LINE, _CLEAR_BELOW, _HIDE, _SHOW = "\x1b[K", "\x1b[J", "\x1b[?25l", "\x1b[?25h"


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
        self._stream = stream
        self._colour = colour
        self._prefix = "DRY-RUN MODE - " if dry_run else ""
        self._now = now
        self._size = size
        self._animate = animate
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._drawn: list[int] = []  # widths of the lines on the screen, to know how many rows they take
        self._title = ""
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self, title: str) -> None:
        with self._lock:
            self._title = title

    def show(self, event: events.Event) -> None:
        with self._lock:
            now = self._now()
            line = self._lines.get(event.resource)
            if line is None:
                line = self._lines[event.resource] = _Line(event, now)
            elif line.ended is not None and event.status is events.Status.WORKING:
                line.began = now
            line.event = event
            line.ended = None if event.status is events.Status.WORKING else now
            if self._thread is None and self._animate:
                self._begin()
            self._draw()

    def finish(self) -> None:
        if self._thread is not None and self._stop is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        with self._lock:
            if self._lines:
                self._draw(final=True)
                self._write(_SHOW)
            self._lines = {}
            self._drawn = []

    def _begin(self) -> None:
        self._write(_HIDE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, args=(self._stop,), daemon=True)
        self._thread.start()

    def _tick(self, stop: threading.Event) -> None:
        while not stop.wait(_PERIOD):
            with self._lock:
                if any(line.ended is None for line in self._lines.values()):
                    self._draw()

    def _draw(self, *, final: bool = False) -> None:
        columns, rows = self._size(self._stream)
        # A narrower terminal has wrapped what was drawn, so one line may take several rows now.
        above = sum(max(1, -(-width // columns)) for width in self._drawn)
        # Over the old lines, and what is left of them goes last: to clear from the top of the screen, as everything
        # would be, makes tmux and others keep each frame in their history.
        text = [f"\x1b[{above}F" if above else ""]
        self._drawn = []
        for plain, painted in self._render(columns, rows if not final else len(self._lines) + 2):
            self._drawn.append(table.width(plain))
            text.append(f"{painted}{_CLEAR_LINE}\n")
        self._write("".join((*text, _CLEAR_BELOW)))

    def _render(self, columns: int, rows: int) -> list[tuple[str, str]]:
        """Each line without and with colours."""
        done = sum(line.ended is not None for line in self._lines.values())
        head = table.cut(f"{self._prefix}[+] {self._title} {done}/{len(self._lines)}", columns - 1)
        rendered = [(head, head)]
        lines = list(self._lines.values())
        room = max(rows - 2, 1)
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
            rendered.append((f"   {hidden} more", f"   {hidden} more"))
        return rendered

    def _line(self, name: str, line: _Line, columns: int, widest: int, states: int) -> tuple[str, str]:
        event = line.event
        mark, code = _MARK[event.status]
        spent = formats.elapsed((self._now() if line.ended is None else line.ended) - line.began)
        name = table.pad(table.cut(name, widest), widest)
        state = table.pad(terminal.visible(event.text), states)
        tail = f"  {spent}"
        if event.total and line.ended is None:
            tail += f"  {formats.size(event.current)} of {formats.size(event.total)}"
        if event.details:
            tail += f"  {terminal.visible(event.details)}"
        plain = table.cut(f" {mark} {name}  {state}{tail}", columns - 1)
        if not self._colour:
            return plain, plain
        painted = f" {terminal.paint(mark, code, colour=True)} {plain[3:]}"
        return plain, painted.replace(state, terminal.paint(state, code, colour=True), 1) if state else painted

    def _write(self, text: str) -> None:
        # A terminal that is gone takes no progress; the work goes on.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
