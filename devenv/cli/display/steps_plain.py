"""A build for logs and pipes, as BuildKit writes it: each line begins with its step's number.

#3 [web 2/4] RUN make
#3 0.312 cc -c main.c
#3 DONE 1.2s
"""

from __future__ import annotations

import threading
from typing import TextIO

from devenv.build import progress
from devenv.cli import formats, terminal
from devenv.cli.display import steps


class Plain:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._board = steps.Board()
        self._named: set[str] = set()
        self._last = ""  # whose line was printed last
        self._lock = threading.Lock()

    def tell(self, step: progress.Step) -> None:
        with self._lock:
            entry, lines = self._board.take(step)
            found = [f"{max(step.time - entry.began, 0):.3f} {terminal.visible_log(line)}" for line in lines]
            found += self._state(step, entry)
            if step.id not in self._named:
                self._named.add(step.id)
                found.insert(0, terminal.visible(entry.name))
            if found:
                self._print(step.id, entry, found)

    def finish(self) -> None:
        pass

    def _state(self, step: progress.Step, entry: steps.Entry) -> list[str]:
        if step.state is progress.State.WARNING:
            return [f"WARN {terminal.visible(step.text)}"]
        if step.state is progress.State.FAILED:
            return [f"ERROR {terminal.visible(step.text.removeprefix(f'`{entry.name}` '))}"]
        if step.state is progress.State.DONE:
            return [f"DONE {formats.elapsed(entry.seconds)}"]
        return [step.state.upper()] if step.state in steps.ENDS else []

    def _print(self, name: str, entry: steps.Entry, lines: list[str]) -> None:
        # An empty line where another step speaks, but for those that are there in one line.
        gap = "\n" if self._last and self._last != name else ""
        self._last = name
        text = "".join(f"#{entry.number} {line}\n" for line in lines)
        print(f"{gap}{text}", end="", file=self._stream, flush=True)
