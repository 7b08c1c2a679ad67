"""Looking on while the supervisor watches files: its notes, one line each, until the caller has had enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from devenv import errors, events
from devenv.cli import bringup, context, operate, options

_PASSING = frozenset({"info", "batch", "build"})
_PATIENCE = 5  # tries to bring a dead supervisor back, before giving up


def params(given: options.Globals, project: context.Loaded, services: Sequence[str]) -> dict[str, Any]:
    return bringup.params(given, project, bringup.Wishes(services=tuple(services)))


def follow(
    project: operate.Project, request: dict[str, Any], show: Callable[[str], None], *, quiet: bool = False
) -> None:
    """Until the connection is closed from outside, or what is wrong can't be mended: that is shown, too."""
    failures = 0
    while True:
        try:
            for message in operate.ensure(project).call("watch", request):
                failures = 0
                for line in _lines(message, quiet=quiet):
                    show(f"watch: {line}")
        except (errors.SupervisorError, OSError):
            failures += 1
            if failures >= _PATIENCE:
                raise
        # The monitor or we ourselves start it again; its socket takes a moment.
        time.sleep(0.05 * (failures + 1))


def _lines(message: dict[str, Any], *, quiet: bool) -> list[str]:
    if "event" in message:
        event = events.Event.from_json(message["event"])
        if event.status not in {events.Status.WARNING, events.Status.ERROR}:
            return []
        return [f"{event.resource} {event.text} {event.details}".rstrip()]
    note = message.get("watch")
    if note is None or (quiet and note["level"] in _PASSING):
        return []
    mark = "" if note["level"] in _PASSING else f"{note['level']}: "
    return [f"{mark}{note['text']}"] + ([f"hint: {note['hint']}"] if note["hint"] else [])
