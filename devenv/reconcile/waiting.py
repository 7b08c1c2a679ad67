"""Waiting for a service, with a reason that can be told: see ``reasons``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from devenv.reconcile import reasons


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
    back_off: reasons.BackOff | None = None  # while a restart is due


class Verdict(NamedTuple):
    met: bool
    failed: bool = False  # it can't become true any more
    reason: reasons.Reason | None = None  # while it isn't met
    again: float | None = None  # seconds after which it may be another one although nothing has changed

    @property
    def said(self) -> str:
        return "" if self.reason is None else self.reason.sentence()


def judge(condition: Condition, containers: Iterable[Seen]) -> Verdict:
    """One look at all replicas: the condition holds when it holds for each of them."""
    verdicts = [_judge(condition, seen) for seen in containers]
    for verdict in verdicts:
        if verdict.failed:
            return verdict
    waits = [verdict for verdict in verdicts if not verdict.met]
    if waits:
        return waits[0]._replace(again=soonest(waits))
    return Verdict(True) if verdicts else Verdict(False, reason=reasons.Missing())


def soonest(verdicts: Iterable[Verdict]) -> float | None:
    """When the first of them may change by itself."""
    return min((verdict.again for verdict in verdicts if verdict.again is not None), default=None)


def _judge(condition: Condition, seen: Seen) -> Verdict:
    code = 255 if seen.exit_code is None else seen.exit_code
    if seen.status == "stopped" and seen.gave_up:
        done = code == 0 and condition in {Condition.COMPLETED, Condition.READY}
        return Verdict(done, not done, None if done else reasons.Exited(container=seen.name, exit_code=code))
    if seen.status != "running" or condition is Condition.COMPLETED:
        return Verdict(False, reason=seen.back_off or reasons.Status(container=seen.name, status=seen.status))
    if condition is Condition.STARTED:
        return Verdict(True)
    if condition is Condition.READY and not seen.health:
        left = SETTLING - seen.uptime
        return Verdict(False, reason=reasons.Settling(container=seen.name), again=left) if left > 0 else Verdict(True)
    if not seen.health:
        return Verdict(False, True, reasons.Uncheckable(container=seen.name))
    return Verdict(True) if seen.health == "healthy" else Verdict(False, seen.health == "unhealthy", _health(seen))


def _health(seen: Seen) -> reasons.Health:
    last = seen.last_output.strip()[-reasons.LAST :]
    return reasons.Health(container=seen.name, health=seen.health, failed=seen.failed, retries=seen.retries, last=last)


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
