from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from devenv import errors
from devenv.health import probe, prober


class _Over(Exception):
    """The story has been told to its end."""


class Time:
    """A clock whose sleeps return at once, until ``limit``."""

    def __init__(self, limit: float) -> None:
        self.now = 0.0
        self.limit = limit

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.limit:
            raise _Over

    def clock(self) -> prober.Clock:
        return prober.Clock(now=lambda: self.now, wall=lambda: 1_000_000.0 + self.now, sleep=self.sleep)


Answer = Callable[[float], tuple[int | None, bytes]]


def tell(config: probe.Config, answer: Answer, *, limit: float, **given: Any) -> list[dict[str, Any]]:
    time = Time(limit)
    seen: list[dict[str, Any]] = []

    async def attempt(timeout: float) -> tuple[int | None, bytes]:
        assert timeout == config.timeout
        return answer(time.now)

    with pytest.raises(_Over):
        asyncio.run(prober.watch(config, attempt=attempt, changed=seen.append, clock=time.clock(), **given))
    return seen


def test_ready_after_half_a_second() -> None:
    config = probe.Config(argv=("check",))
    seen = tell(config, lambda now: (0 if now > 0.45 else 1, b"out"), limit=100.0)
    assert [health["status"] for health in seen] == ["starting", "healthy", "healthy", "healthy", "healthy"]
    assert seen[1]["log"][-1] == {
        "start": pytest.approx(1_000_000.5),
        "end": pytest.approx(1_000_000.5),
        "exit_code": 0,
        "output": "out",
    }


def test_a_timeout_is_a_failure_with_words() -> None:
    config = probe.Config(argv=("check",), interval=1.0, timeout=2.0, retries=1)
    (seen,) = tell(config, lambda _now: (None, b"half an ans"), limit=1.5)
    assert seen["status"] == "unhealthy"
    assert seen["log"][0]["exit_code"] == -1
    assert seen["log"][0]["output"] == "the check took longer than 2s: half an ans"


@pytest.mark.parametrize("error", [errors.ContainerError("no such program"), OSError("no such program")])
def test_a_check_that_cannot_run_is_a_failure(error: Exception) -> None:
    def answer(_now: float) -> tuple[int | None, bytes]:
        raise error

    (seen,) = tell(probe.Config(argv=("check",), interval=1.0, retries=1), answer, limit=1.5)
    assert seen["status"] == "unhealthy"
    assert seen["log"][0]["output"] == "no such program"


def test_a_new_supervisor_goes_on() -> None:
    config = probe.Config(argv=("check",), interval=10.0, retries=3, start_period=30.0)
    before = {"status": "starting", "failing_streak": 2, "log": []}
    (seen,) = tell(config, lambda _now: (1, b""), limit=15.0, uptime=40.0, before=before)
    assert seen["status"] == "unhealthy"


def test_no_check() -> None:
    async def attempt(_timeout: float) -> tuple[int | None, bytes]:
        raise AssertionError

    asyncio.run(prober.watch(None, attempt=attempt, changed=lambda _health: None))


def test_cancelling_reaches_the_probe() -> None:
    told: list[str] = []

    async def story() -> None:
        running = asyncio.Event()

        async def attempt(_timeout: float) -> tuple[int | None, bytes]:
            running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append("cancelled")
                raise
            raise AssertionError

        def now(_seconds: float) -> Awaitable[None]:
            return asyncio.sleep(0)

        task = asyncio.ensure_future(
            prober.watch(
                probe.Config(argv=("check",)),
                attempt=attempt,
                changed=lambda _health: told.append("changed"),
                clock=prober.Clock(sleep=now),
            )
        )
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert told == ["cancelled"]


def test_a_soft_check_ends_with_the_first_success() -> None:
    config = probe.Config(soft=True)
    time = Time(100.0)
    seen: list[dict[str, Any]] = []

    async def attempt(_timeout: float) -> tuple[int | None, bytes]:
        return (0 if time.now > 1.0 else 1), b"nothing listens"

    asyncio.run(prober.watch(config, attempt=attempt, changed=seen.append, clock=time.clock()))
    assert [(health["status"], health["soft"]) for health in seen] == [("starting", True), ("healthy", True)]
    assert time.now < 1.1


def test_a_soft_check_gives_up_without_making_anything_unhealthy() -> None:
    time = Time(100.0)
    seen: list[dict[str, Any]] = []

    async def attempt(_timeout: float) -> tuple[int | None, bytes]:
        return 1, b"nothing listens"

    asyncio.run(prober.watch(probe.Config(soft=True), attempt=attempt, changed=seen.append, clock=time.clock()))
    assert [health["status"] for health in seen] == ["starting", "none"]
    assert probe.SOFT_PATIENCE < time.now < probe.SOFT_PATIENCE + 1.0
