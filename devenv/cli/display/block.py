"""A block of lines at the bottom of a terminal, redrawn in place.

A thread redraws ten times a second while something is under way, so that times move; the size is asked for at every
draw, so a resize needs no signal handler. The block never grows taller than the terminal, since lines that have
scrolled away can't be redrawn; only the last draw may.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import NamedTuple, TextIO

from devenv.cli import table, terminal

_PERIOD = 0.1
_CLEAR_LINE, _CLEAR_BELOW, _HIDE, _SHOW = "\x1b[K", "\x1b[J", "\x1b[?25l", "\x1b[?25h"


class Line(NamedTuple):
    plain: str
    painted: str  # the same with colours


Render = Callable[[int, int | None], list[Line]]  # columns, and rows unless it is the last draw


class Block:
    """``lock`` guards whatever ``render`` and ``busy`` read."""

    def __init__(
        self,
        stream: TextIO,
        render: Render,
        busy: Callable[[], bool],
        *,
        size: Callable[[TextIO], tuple[int, int]] = terminal.size,
        animate: bool = True,
    ) -> None:
        self.lock = threading.Lock()
        self._stream = stream
        self._render = render
        self._busy = busy
        self._size = size
        self._animate = animate
        self._drawn: list[int] = []  # widths of the lines on the screen, to know how many rows they take
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def draw(self, *, last: bool = False) -> None:
        """With the lock held."""
        if self._thread is None and self._animate and not last:
            self._begin()
        columns, rows = self._size(self._stream)
        # A narrower terminal has wrapped what was drawn, so one line may take several rows now.
        above = sum(max(1, -(-width // columns)) for width in self._drawn)
        # Over the old lines, and what is left of them goes last: to clear from the top of the screen, as everything
        # would be, makes tmux and others keep each frame in their history.
        text = [f"\x1b[{above}F" if above else ""]
        self._drawn = []
        for line in self._render(columns, None if last else rows):
            self._drawn.append(table.width(line.plain))
            text.append(f"{line.painted}{_CLEAR_LINE}\n")
        self._write("".join((*text, _CLEAR_BELOW)))

    def finish(self) -> None:
        """Draw for the last time, if anything was drawn, and leave the terminal as it was found."""
        if self._thread is not None and self._stop is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        with self.lock:
            if self._drawn:
                self.draw(last=True)
                self._write(_SHOW)
            self._drawn = []

    def _begin(self) -> None:
        self._write(_HIDE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, args=(self._stop,), daemon=True)
        self._thread.start()

    def _tick(self, stop: threading.Event) -> None:
        while not stop.wait(_PERIOD):
            with self.lock:
                if self._busy():
                    self.draw()

    def _write(self, text: str) -> None:
        # A terminal that is gone takes no progress; the work goes on.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
