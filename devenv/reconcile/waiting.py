"""Waiting for a service, with a reason that can be told: ``web waits for db: healthy (2 failed, last: …)``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple


class Condition(StrEnum):
    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"
    # What `up --wait` asks for: healthy where there is a check, else running for long enough to be believed; a job that
    # ended well is ready too.
    READY = "ready"


# Seconds that a service without any check must have run: a program that can't work says so sooner, mostly.
SETTLING = 0.5


class Seen(NamedTuple):
    """What a waiter needs to know of one container."""

    name: str
    status: str  # created, running, paused, restarting, stopped
    exit_code: int | None
    health: str  # "" without a check, starting, healthy, unhealthy
    last_output: str  # of the newest failed probe
    gave_up: bool  # no restart policy brings it back
    failed: int = 0  # probes in a row that count
    retries: int = 0  # of so many that make it unhealthy
    uptime: float = 0.0  # seconds


class Verdict(NamedTuple):
    met: bool
    failed: bool  # it can't become true any more
    reason: str
    again: float | None = None  # seconds after which it may be another one although nothing has changed


def judge(condition: Condition, containers: Iterable[Seen]) -> Verdict:
    """One look at all replicas: the condition holds when it holds for each of them."""
    verdicts = [_judge(condition, seen) for seen in containers]
    for verdict in verdicts:
        if verdict.failed:
            return verdict
    waits = [verdict for verdict in verdicts if not verdict.met]
    if waits:
        return waits[0]._replace(again=soonest(waits))
    if not verdicts:
        return Verdict(False, False, "it has no container yet")
    return Verdict(True, False, "")


def soonest(verdicts: Iterable[Verdict]) -> float | None:
    """When the first of them may change by itself."""
    return min((verdict.again for verdict in verdicts if verdict.again is not None), default=None)


def _judge(condition: Condition, seen: Seen) -> Verdict:
    ended = seen.status == "stopped" and seen.gave_up
    code = 255 if seen.exit_code is None else seen.exit_code
    if condition is Condition.COMPLETED:
        if ended:
            return Verdict(code == 0, code != 0, "" if code == 0 else f"`{seen.name}` exited with {code}")
        return Verdict(False, False, f"`{seen.name}` is {seen.status}")
    if ended:
        done = condition is Condition.READY and code == 0
        return Verdict(done, not done, f"`{seen.name}` exited with {code}")
    if seen.status != "running":
        return Verdict(False, False, f"`{seen.name}` is {seen.status}")
    if condition is Condition.STARTED:
        return Verdict(True, False, "")
    if condition is Condition.READY and not seen.health:
        left = SETTLING - seen.uptime
        if left > 0:
            return Verdict(False, False, f"`{seen.name}` has only just started", again=left)
        return Verdict(True, False, "")
    if not seen.health:
        return Verdict(False, True, f"`{seen.name}`: {seen.last_output or 'it has no health check and no port'}")
    if seen.health == "healthy":
        return Verdict(True, False, "")
    return Verdict(False, seen.health == "unhealthy", f"`{seen.name}` is {seen.health}{_probes(seen)}")


def _probes(seen: Seen) -> str:
    """Such as `` (2 of 3 probes failed, last: connection refused)``."""
    counted = f"{seen.failed} of {seen.retries} probes failed" if seen.failed else ""
    last = f"last: {seen.last_output.strip()[-200:]}" if seen.last_output.strip() else ""
    parts = ", ".join(part for part in (counted, last) if part)
    return f" ({parts})" if parts else ""


class Changes:
    """Wakes everybody who waits whenever anything has changed; each then looks for himself."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, look: Callable[[], Verdict]) -> Verdict:
        """The first verdict that is met or failed."""
        while True:
            # Taken before the look, so that a change between the look and the wait is not missed.
            event = self._event
            verdict = look()
            if verdict.met or verdict.failed:
                return verdict
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), verdict.again)
