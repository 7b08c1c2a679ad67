"""A build as a live block: a line a step, and under those that run the last lines that they wrote.

[+] Building 4.2s  3/4
 ✔ [web build 1/3] WORKDIR /src              cached
 ✔ [web build 2/3] COPY . .                    0.1s
 ⠿ [web build 3/3] RUN make                    4.0s
     cc -c main.c
     cc -c other.c
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from devenv.build import progress
from devenv.cli import formats, table, terminal
from devenv.cli.display import block, steps

_MARK = {
    progress.State.CACHED: ("✔", "32"),
    progress.State.DONE: ("✔", "32"),
    progress.State.FAILED: ("✘", "31"),
    progress.State.CANCELED: ("-", "33"),
}
_WORKING = ("⠿", "36")
_WARNED = ("!", "33")
_INDENT = "     "


class Tty:
    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool = True,
        now: Callable[[], float] = time.time,
        size: Callable[[TextIO], tuple[int, int]] = terminal.size,
        animate: bool = True,
    ) -> None:
        self._colour = colour
        self._now = now
        self._board = steps.Board()
        self._block = block.Block(stream, self._render, self._is_busy, size=size, animate=animate)
        self._began = now()

    def tell(self, step: progress.Step) -> None:
        with self._block.lock:
            _, lines = self._board.take(step)
            # Floods of output are drawn by the clock.
            if step.state is not progress.State.OUTPUT or not lines:
                self._block.draw()

    def finish(self) -> None:
        self._block.finish()

    def _is_busy(self) -> bool:
        return any(entry.ended is None for entry in self._board.entries.values())

    def _render(self, columns: int, rows: int | None) -> list[block.Line]:
        entries = list(self._board.entries.values())
        done = sum(entry.ended is not None for entry in entries)
        spent = formats.elapsed(self._now() - self._began)
        head = table.cut(f"[+] Building {spent}  {done}/{len(entries)}", columns - 1)
        room = max(len(entries) if rows is None else rows - 2, 1)
        shown = _fitting(entries, room)
        hidden = len(entries) - len(shown)
        # What lines are left go to the outputs of what runs.
        spare = 0 if rows is None else max(room - len(shown) - bool(hidden), 0)
        running = [entry for entry in shown if entry.ended is None and entry.tail]
        tails = dict.fromkeys((entry.number for entry in running), min(spare // max(len(running), 1), steps.TAIL))
        lines = [block.Line(head, head)]
        if hidden:
            lines.append(self._faint(f"   {hidden} more", columns))
        for entry in shown:
            lines.append(self._line(entry, columns))
            count = tails.get(entry.number, 0)
            lines += [self._faint(f"{_INDENT}{_bare(line)}", columns) for line in entry.tail[-count:] if count]
        return lines

    def _line(self, entry: steps.Entry, columns: int) -> block.Line:
        mark, code = _MARK.get(entry.state, _WORKING)
        if entry.warning and entry.state is not progress.State.FAILED:
            mark, code = _WARNED
        state = self._state(entry)
        width = max(columns - 1 - 3 - 2 - table.width(state), 8)
        name = table.pad(table.cut(terminal.visible(entry.title), width), width)
        plain = table.cut(f" {mark} {name}  {state}", columns - 1)
        if not self._colour:
            return block.Line(plain, plain)
        return block.Line(plain, f" {terminal.paint(mark, code, colour=True)} {plain[3:]}")

    def _state(self, entry: steps.Entry) -> str:
        if entry.state is progress.State.CACHED:
            return "cached"
        if entry.state is progress.State.CANCELED:
            return "stopped"
        spent = formats.elapsed(entry.seconds if entry.ended is not None else max(self._now() - entry.began, 0.0))
        step = entry.step
        if step.total and entry.ended is None:
            return f"{formats.size(step.current)} of {formats.size(step.total)}  {spent}"
        return spent

    def _faint(self, text: str, columns: int) -> block.Line:
        plain = table.cut(text, columns - 1)
        return block.Line(plain, terminal.paint(plain, "2", colour=self._colour))


def _fitting(entries: list[steps.Entry], room: int) -> list[steps.Entry]:
    """What runs or went wrong, then the latest of the others; in their order."""
    if len(entries) <= room:
        return entries
    ended = {progress.State.CACHED, progress.State.DONE}
    ranked = sorted(entries, key=lambda entry: (entry.state in ended, -entry.number))
    kept = {entry.number for entry in ranked[: max(room - 1, 1)]}
    return [entry for entry in entries if entry.number in kept]


def _bare(line: str) -> str:
    return terminal.visible(terminal.without_colours(line).expandtabs(8))
