"""When to probe a container, and what the answers make of its health. Pure: time is handed in.

    starting ──success──▶ healthy ◀──success── unhealthy
        └──── `retries` failures in a row, counted once the start period is over ────▲   (from healthy too)

Times are as the Compose Specification and Docker have them: the first probe comes one interval after the start, each
further one an interval after the last has ended; within the start period `start_interval` takes the interval's place
and failures don't count, but a success ends it at once.

One rule is devenv's own: a check that names no interval is probed every 100 ms while it is starting, so that whoever
waits for it goes on when it is ready and not up to half a minute later. Such quick failures count once every 30 s, so
nothing becomes unhealthy sooner than it would elsewhere.

A service that publishes or exposes ports and has no check is looked at, too, until something listens: a *soft* check.
It never makes anything unhealthy. Whoever waits for the service waits for it, for half a minute at the most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

DEFAULT_INTERVAL = 30.0
DEFAULT_TIMEOUT = 30.0
DEFAULT_RETRIES = 3
DEFAULT_START_INTERVAL = 5.0
QUICK_INTERVAL = 0.1
QUICK_LOOK = 0.03  # of a check that runs no program
SOFT_PATIENCE = 30.0  # seconds from the start; a service that never listens may be meant so

MAX_OUTPUT = 4096  # bytes of a probe's output that are kept, as Docker does
MAX_LOG = 5  # probes that are kept
TIMED_OUT = -1  # the exit code that Docker shows for a probe that had to be killed or could not be run


class Status(StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    NONE = "none"  # a soft check that has given up


def argv(test: str | Sequence[str] | None, *, shell: Sequence[str] = ("/bin/sh", "-c")) -> tuple[str, ...] | None:
    """What to run for a `test` in any of its forms; None when it switches the check off."""
    if isinstance(test, str):
        return (*shell, test) if test.strip() else None
    if not test or test[0] == "NONE":
        return None
    kind, *rest = test
    if kind == "CMD-SHELL":
        return (*shell, " ".join(rest)) if rest else None
    if kind == "CMD":
        return tuple(rest) or None
    # An image's config may hold a bare list: Docker runs it as it is.
    return tuple(test)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Seconds everywhere. 0 means the default, as Docker has it."""

    argv: tuple[str, ...] = ()  # none of a check that runs nothing: see ``dial``
    soft: bool = False
    interval: float | None = None  # None when nobody named one
    timeout: float = DEFAULT_TIMEOUT
    retries: int = DEFAULT_RETRIES
    start_period: float = 0.0
    start_interval: float | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Config | None:
        """From a check whose times are seconds already; None when it is switched off."""
        command = None if data.get("disable") else argv(data.get("test"))
        if command is None and not (data.get("dial") or data.get("log")):
            return None
        return cls(
            argv=command or (),
            soft=bool(data.get("soft")),
            interval=_seconds(data.get("interval")),
            timeout=_seconds(data.get("timeout")) or DEFAULT_TIMEOUT,
            retries=int(data.get("retries") or DEFAULT_RETRIES),
            start_period=_seconds(data.get("start_period")) or 0.0,
            start_interval=_seconds(data.get("start_interval")),
        )


def _seconds(value: Any) -> float | None:
    return float(value) if value else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One probe. ``start`` and ``end`` are seconds since the epoch, for showing only."""

    start: float
    end: float
    exit_code: int
    output: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Health:
    """The health of one container. ``now`` and ``started`` are of one clock that never jumps."""

    def __init__(self, config: Config, *, started: float, before: Mapping[str, Any] | None = None) -> None:
        """``before`` is the JSON form that an earlier supervisor left of the same run of the container."""
        self.config = config
        self.status = Status.STARTING
        self.failing_streak = 0
        self.log: list[Result] = []
        self._started = started
        # From here on the next failure of a quick check is worth counting.
        self._counted = started + config.start_period
        if before:
            self._go_on_from(before)

    def _go_on_from(self, before: Mapping[str, Any]) -> None:
        try:
            self.status = Status(before["status"])
            self.failing_streak = int(before.get("failing_streak", 0))
            self.log = [Result(**entry) for entry in before.get("log") or []][-MAX_LOG:]
        except (KeyError, TypeError, ValueError):
            # Written by another version or half by hand: a check that begins anew is right soon enough.
            self.status, self.failing_streak, self.log = Status.STARTING, 0, []

    @property
    def over(self) -> bool:
        """Nobody needs to know more."""
        return self.config.soft and self.status is not Status.STARTING

    @property
    def quick(self) -> bool:
        return self.status is Status.STARTING and self.config.interval is None

    def delay(self, now: float) -> float:
        """Seconds from the start, or from the end of the last probe, to the next one."""
        interval = self.config.interval or DEFAULT_INTERVAL
        if self.status is not Status.STARTING:
            return interval
        if self._in_start_period(now):
            if self.config.start_interval is not None:
                return self.config.start_interval
            return self._quickly if self.quick else min(DEFAULT_START_INTERVAL, interval)
        return self._quickly if self.quick else interval

    @property
    def _quickly(self) -> float:
        return QUICK_INTERVAL if self.config.argv else QUICK_LOOK

    def record(self, result: Result, *, began: float) -> bool:
        """Take in a probe that began at ``began``. True when it tells anything that the one before did not."""
        before = (self.status, self.failing_streak, *self._last())
        if result.exit_code == 0:
            self.status = Status.HEALTHY
            self.failing_streak = 0
        elif self.config.soft:
            if began - self._started > SOFT_PATIENCE:
                self.status = Status.NONE
        elif self._counts(began):
            self.failing_streak += 1
            if self.failing_streak >= self.config.retries:
                self.status = Status.UNHEALTHY
        self.log = [*self.log[1 - MAX_LOG :], result]
        return before != (self.status, self.failing_streak, *self._last()) or not self.quick

    def _counts(self, began: float) -> bool:
        if self.status is not Status.STARTING:
            return True
        if self._in_start_period(began):
            return False
        if self.config.interval is not None:
            return True
        if began - self._counted < DEFAULT_INTERVAL:
            return False
        self._counted = began
        return True

    def _in_start_period(self, now: float) -> bool:
        return now - self._started < self.config.start_period

    def _last(self) -> tuple[int | None, str]:
        return (self.log[-1].exit_code, self.log[-1].output) if self.log else (None, "")

    def to_json(self) -> dict[str, Any]:
        return {
            "status": str(self.status),
            **({"soft": True} if self.config.soft else {}),
            "failing_streak": self.failing_streak,
            "log": [result.to_json() for result in self.log],
        }


def text(output: bytes) -> str:
    """A probe's output as it is kept: the first 4096 bytes, whatever they are."""
    kept = output[:MAX_OUTPUT].decode("utf-8", "replace")
    return f"{kept}..." if len(output) > MAX_OUTPUT else kept
