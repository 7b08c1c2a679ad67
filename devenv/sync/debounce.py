"""When a change is acted upon: one save at once, a storm of them when it has calmed down.

    a lone event          after SETTLE: an editor's rename comes with two or three more of its kind
    in a burst            when it has been quiet for QUIET, and at the latest LONGEST after the first
    a file being written  when it is closed; if it isn't, after OPEN
    a restart, a rebuild  when it has been quiet for CALM: a checkout restarts once

Pure: the clock is the caller's.
"""

from __future__ import annotations

SETTLE = 0.002
QUIET = 0.02
LONGEST = 0.25
OPEN = 0.1
CALM = 0.1

# Events that are this far apart belong to a burst.
_BURST = 0.05


class Debounce:
    def __init__(self) -> None:
        self._first: float | None = None  # of those that wait
        self._last = float("-inf")
        self._before = float("-inf")  # the last one before those that wait
        self._weak = False  # all that wait may still be followed by the close of their files

    def event(self, now: float, *, weak: bool = False) -> None:
        if self._first is None:
            self._first, self._before, self._weak = now, self._last, weak
        elif not weak:
            self._weak = False
        self._last = now

    def taken(self) -> None:
        """What waited is being acted upon."""
        self._first = None

    @property
    def waits(self) -> bool:
        return self._first is not None

    def due(self) -> float | None:
        """When to act, by the clock of ``event``; None for not at all."""
        if self._first is None:
            return None
        if self._weak:
            return self._last + OPEN
        lone = self._first - self._before >= _BURST and self._last - self._first <= SETTLE
        wait = self._first + SETTLE if lone else self._last + QUIET
        return min(wait, self._first + LONGEST)

    def calm(self) -> float:
        """When it will have been quiet for long enough to restart something."""
        return self._last + CALM
