"""When a wait is over, and what is said meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from devenv.reconcile import waiting


def seen(name: str = "shop-web-1", **fields: object) -> waiting.Seen:
    plain = waiting.Seen(name=name, status="running", exit_code=None, health="", last_output="", gave_up=False)
    return plain._replace(**fields)  # type: ignore[arg-type]


def test_without_a_check_it_has_to_run_for_a_moment() -> None:
    young = waiting.judge(waiting.Condition.READY, [seen(uptime=0.1)])
    assert (young.met, young.failed) == (False, False)
    assert young.again == pytest.approx(waiting.SETTLING - 0.1)
    assert waiting.judge(waiting.Condition.READY, [seen(uptime=waiting.SETTLING)]).met
    # Whoever only wants it started doesn't ask whether it stays.
    assert waiting.judge(waiting.Condition.STARTED, [seen(uptime=0.0)]).met


def test_a_check_says_it_at_once() -> None:
    assert waiting.judge(waiting.Condition.READY, [seen(uptime=0.0, health="healthy")]).met


def test_the_soonest_of_all_replicas_is_looked_at_again() -> None:
    verdict = waiting.judge(waiting.Condition.READY, [seen(health="starting"), seen(uptime=0.2), seen(uptime=0.4)])
    assert verdict.again == pytest.approx(waiting.SETTLING - 0.4)


@pytest.mark.parametrize(("code", "met"), [(0, True), (1, False), (None, False)])
def test_a_job_is_ready_when_it_ended_well(code: int | None, met: bool) -> None:
    verdict = waiting.judge(waiting.Condition.READY, [seen(status="stopped", gave_up=True, exit_code=code)])
    assert (verdict.met, verdict.failed) == (met, not met)


def test_it_looks_again_although_nothing_has_changed() -> None:
    verdicts = iter([waiting.Verdict(False, False, "young", again=0.01), waiting.Verdict(True, False, "")])

    async def wait() -> waiting.Verdict:
        return await asyncio.wait_for(waiting.Changes().until(lambda: next(verdicts)), 10)

    assert asyncio.run(wait()).met
