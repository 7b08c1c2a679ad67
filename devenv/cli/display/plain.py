"""One line an event, for logs and pipes."""

from __future__ import annotations

from typing import TextIO

from devenv import events
from devenv.cli import terminal


class Plain:
    def __init__(self, stream: TextIO, *, dry_run: bool = False) -> None:
        self._stream = stream
        self._prefix = "DRY-RUN MODE - " if dry_run else ""
        self._last: dict[str, tuple[str, str]] = {}

    def start(self, title: str) -> None:
        pass

    def show(self, event: events.Event) -> None:
        # A wait is reported again whenever its reason is looked at; a line that says nothing new is noise.
        if self._last.get(event.resource) == (event.text, event.details):
            return
        self._last[event.resource] = (event.text, event.details)
        details = f"  {event.details}" if event.details else ""
        line = terminal.visible(f"{self._prefix}{event.resource}  {event.text}{details}")
        print(f" {line}", file=self._stream, flush=True)

    def finish(self) -> None:
        pass
