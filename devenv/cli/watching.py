"""Following what happens to a project's containers, through a supervisor that may die and come back meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from devenv import errors
from devenv.cli import operate

_PATIENCE = 5  # tries to bring a dead supervisor back, before giving up


def messages(project: operate.Project) -> Iterator[dict[str, Any]]:
    """Every message of the supervisor, endlessly. ``{"subscribed": true}`` comes first, and again after each gap:
    what happened during one has to be looked up, not waited for."""
    failures = 0
    while True:
        try:
            for message in operate.ensure(project).call("subscribe", {}):
                failures = 0
                yield message
        except (errors.SupervisorError, OSError):
            failures += 1
            if failures >= _PATIENCE:
                raise
        # The monitor or we ourselves start it again; its socket takes a moment.
        time.sleep(0.05 * (failures + 1))


def changes(project: operate.Project) -> Iterator[dict[str, Any]]:
    """Once at the beginning, then at every message about a container."""
    for message in messages(project):
        if "subscribed" in message or "container" in message:
            yield message
