from __future__ import annotations

import pytest

from devenv import errors
from devenv.reconcile import restart

ALWAYS = restart.Policy(condition=restart.Condition.ALWAYS)


def decide(policy: restart.Policy, **given: object) -> restart.Restart | restart.GiveUp:
    values: dict[str, object] = {"exit_code": 1, "runs": 0, "uptime": 0.0, "stopped_by_user": False, **given}
    return restart.decide(policy, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "condition", "attempts"),
    [
        ("no", "none", 0),
        ("", "none", 0),
        ("always", "always", 0),
        ("unless-stopped", "unless-stopped", 0),
        ("on-failure", "on-failure", 0),
        ("on-failure:3", "on-failure", 3),
    ],
)
def test_parse(text: str, condition: str, attempts: int) -> None:
    policy = restart.Policy.parse(text)
    assert (policy.condition, policy.max_attempts) == (condition, attempts)
    assert restart.Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize("text", ["sometimes", "always:3", "on-failure:", "on-failure:-1", "on-failure:x", "no:1"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(errors.SpecError, match="is not a restart policy"):
        restart.Policy.parse(text)


def test_from_deploy() -> None:
    given = {"condition": "on-failure", "delay": "5s", "max_attempts": 3, "window": "2m"}
    assert restart.Policy.from_deploy(given) == restart.Policy(
        condition=restart.Condition.ON_FAILURE, max_attempts=3, delay=5.0, window=120.0
    )
    assert restart.Policy.from_deploy({}).condition is restart.Condition.ALWAYS
    with pytest.raises(errors.SpecError):
        restart.Policy.from_deploy({"condition": "never"})


@pytest.mark.parametrize(
    ("text", "exit_code", "comes_back"),
    [
        ("no", 1, False),
        ("always", 0, True),
        ("always", 1, True),
        ("unless-stopped", 0, True),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("on-failure", None, True),
    ],
)
def test_conditions(text: str, exit_code: int | None, comes_back: bool) -> None:
    policy = restart.Policy.parse(text)
    assert isinstance(decide(policy, exit_code=exit_code), restart.Restart) is comes_back
    assert isinstance(decide(policy, exit_code=exit_code, stopped_by_user=True), restart.GiveUp)


def test_back_off_doubles_to_a_minute() -> None:
    delays, runs = [], 0
    for _ in range(12):
        decision = decide(ALWAYS, runs=runs)
        assert isinstance(decision, restart.Restart)
        delays.append(decision.delay)
        runs = decision.runs
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]
    assert restart.back_off(10_000) == 60.0


def test_a_calm_spell_begins_anew() -> None:
    assert decide(ALWAYS, runs=8, uptime=10.0) == restart.Restart(delay=0.1, runs=9, streak=1)
    assert decide(ALWAYS, runs=9, streak=1, uptime=1.0) == restart.Restart(delay=0.2, runs=10, streak=2)


def test_attempts_are_counted_beyond_calm_spells() -> None:
    policy = restart.Policy.parse("on-failure:2")
    assert isinstance(decide(policy, runs=1, uptime=60.0), restart.Restart)
    gave_up = decide(policy, runs=2, uptime=60.0)
    assert gave_up == restart.GiveUp("it was restarted 2 times already, as often as its policy allows")


def test_a_window_forgets_attempts() -> None:
    policy = restart.Policy.from_deploy({"max_attempts": 1, "window": "30s", "delay": "2s"})
    assert isinstance(decide(policy, runs=1, uptime=29.0), restart.GiveUp)
    assert decide(policy, runs=1, uptime=30.0) == restart.Restart(delay=2.0, runs=1, streak=1)


def test_a_crash_loop_is_told() -> None:
    told = [
        decision.crash_loop for runs in range(6) if isinstance(decision := decide(ALWAYS, runs=runs), restart.Restart)
    ]
    assert told == [False, False, False, False, True, True]
