"""Where progress goes: the sink that every display is, and which one a command gets."""

from __future__ import annotations

import os
import sys
from typing import Protocol, TextIO

from devenv import events
from devenv.cli import settings, terminal


class Display(Protocol):
    def start(self, title: str) -> None:
        """Something named ``title`` (``up``, ``down``) begins."""

    def show(self, event: events.Event) -> None: ...

    def finish(self) -> None:
        """Leave the terminal as it was found. May be called more than once."""


def kind(given: settings.Globals, stream: TextIO) -> settings.Progress:
    """Never ``AUTO``."""
    if given.progress is not settings.Progress.AUTO:
        return given.progress
    live = terminal.is_terminal(stream) and os.environ.get("TERM") != "dumb" and given.ansi != "never"
    return settings.Progress.TTY if live or given.ansi == "always" else settings.Progress.PLAIN


def choose(given: settings.Globals, stream: TextIO | None = None) -> Display:
    """What ``--progress`` and ``--ansi`` ask for; by itself a live display on a terminal, else plain lines."""
    if stream is None:
        stream = sys.stdout if os.environ.get("COMPOSE_STATUS_STDOUT") in {"1", "true"} else sys.stderr
    chosen = kind(given, stream)
    if chosen is settings.Progress.TTY:
        from devenv.cli.display import tty

        return tty.Tty(stream, colour=terminal.wants_colour(stream, given.ansi), dry_run=given.dry_run)
    if chosen is settings.Progress.JSON:
        from devenv.cli.display import jsonl

        return jsonl.JsonLines(stream, dry_run=given.dry_run)
    if chosen is settings.Progress.QUIET:
        from devenv.cli.display import quiet

        return quiet.Quiet()
    from devenv.cli.display import plain

    return plain.Plain(stream, dry_run=given.dry_run)
