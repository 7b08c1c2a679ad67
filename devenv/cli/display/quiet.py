"""No progress at all; errors are not progress and are printed by ``report``."""

from __future__ import annotations

from devenv import events


class Quiet:
    def start(self, title: str) -> None:
        pass

    def show(self, event: events.Event) -> None:
        pass

    def finish(self) -> None:
        pass
