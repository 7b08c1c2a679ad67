from __future__ import annotations

import pytest

from devenv.health import probe

CMD = ("true",)


def result(exit_code: int, output: str = "") -> probe.Result:
    return probe.Result(start=0.0, end=0.0, exit_code=exit_code, output=output)


def run(health: probe.Health, codes: str, *, at: float = 0.0, step: float | None = None) -> list[str]:
    """Feed one probe a character: `.` passes, `x` fails. Answers with the status after each."""
    seen, now = [], at
    for code in codes:
        now += health.delay(now) if step is None else step
        health.record(result(0 if code == "." else 1), began=now)
        seen.append(str(health.status))
    return seen


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (["CMD", "curl", "-f", "x"], ("curl", "-f", "x")),
        (["CMD-SHELL", "exit 1"], ("/bin/sh", "-c", "exit 1")),
        ("curl x || exit 1", ("/bin/sh", "-c", "curl x || exit 1")),
        (["pg_isready"], ("pg_isready",)),
        (["NONE"], None),
        (["CMD"], None),
        ([], None),
        ("", None),
        (None, None),
    ],
)
def test_argv(test: object, expected: tuple[str, ...] | None) -> None:
    assert probe.argv(test) == expected  # type: ignore[arg-type]


def test_config_defaults() -> None:
    assert probe.Config.from_json({"test": ["CMD", "true"]}) == probe.Config(
        argv=CMD, interval=None, timeout=30.0, retries=3, start_period=0.0, start_interval=None
    )
    # Docker takes 0 for "not given".
    zeros = {"test": ["CMD", "true"], "interval": 0, "timeout": 0, "retries": 0}
    assert probe.Config.from_json(zeros) == probe.Config(argv=CMD)
    assert probe.Config.from_json({"test": ["CMD", "true"], "disable": True}) is None
    assert probe.Config.from_json({"test": ["NONE"]}) is None


def test_becomes_healthy_and_unhealthy_and_healthy_again() -> None:
    health = probe.Health(probe.Config(argv=CMD, interval=1.0, retries=2), started=0.0)
    assert run(health, "x.xx.") == ["starting", "healthy", "healthy", "unhealthy", "healthy"]


def test_failures_in_a_row_only() -> None:
    health = probe.Health(probe.Config(argv=CMD, interval=1.0, retries=3), started=0.0)
    assert run(health, "xx.xx.") == ["starting", "starting", "healthy", "healthy", "healthy", "healthy"]


def test_given_interval_is_kept_while_starting() -> None:
    health = probe.Health(probe.Config(argv=CMD, interval=7.0), started=0.0)
    assert health.delay(0.0) == 7.0


def test_start_period_forgives_and_a_success_ends_it() -> None:
    config = probe.Config(argv=CMD, interval=10.0, retries=1, start_period=60.0, start_interval=2.0)
    health = probe.Health(config, started=0.0)
    assert health.delay(0.0) == 2.0
    assert run(health, "xxx") == ["starting"] * 3
    assert run(health, ".", at=6.0) == ["healthy"]
    # Still within the period, but it was healthy once: now failures count, and the interval is the usual one.
    assert health.delay(8.0) == 10.0
    assert run(health, "x", at=8.0) == ["unhealthy"]


def test_after_the_start_period_failures_count() -> None:
    config = probe.Config(argv=CMD, interval=10.0, retries=2, start_period=5.0, start_interval=2.0)
    health = probe.Health(config, started=0.0)
    assert run(health, "xx", step=2.0) == ["starting", "starting"]
    assert health.failing_streak == 0
    assert health.delay(6.0) == 10.0
    assert run(health, "xx", at=6.0) == ["starting", "unhealthy"]


def test_start_interval_defaults_to_five_seconds_or_less() -> None:
    config = probe.Config(argv=CMD, interval=30.0, start_period=60.0)
    assert probe.Health(config, started=0.0).delay(0.0) == 5.0
    config = probe.Config(argv=CMD, interval=1.0, start_period=60.0)
    assert probe.Health(config, started=0.0).delay(0.0) == 1.0


def test_without_interval_it_is_quick_while_starting() -> None:
    health = probe.Health(probe.Config(argv=CMD), started=0.0)
    assert health.delay(0.0) == 0.1
    assert run(health, "x" * 20 + ".")[-1] == "healthy"
    assert health.failing_streak == 0
    assert health.delay(3.0) == 30.0


def test_quick_failures_count_no_sooner_than_elsewhere() -> None:
    health = probe.Health(probe.Config(argv=CMD), started=0.0)
    now = 0.0
    while health.status is probe.Status.STARTING:
        now += health.delay(now)
        health.record(result(1), began=now)
    assert 90.0 <= now < 90.5
    assert health.status is probe.Status.UNHEALTHY
    assert health.delay(now) == 30.0


def test_quick_and_start_period() -> None:
    health = probe.Health(probe.Config(argv=CMD, retries=1, start_period=20.0), started=0.0)
    now = 0.0
    while health.status is probe.Status.STARTING:
        now += health.delay(now)
        health.record(result(1), began=now)
    assert 50.0 <= now < 50.5


def test_log_keeps_the_newest_five() -> None:
    health = probe.Health(probe.Config(argv=CMD, interval=1.0), started=0.0)
    for code in range(8):
        health.record(result(code), began=float(code))
    assert [entry["exit_code"] for entry in health.to_json()["log"]] == [3, 4, 5, 6, 7]


def test_repeated_quick_failures_are_no_news() -> None:
    health = probe.Health(probe.Config(argv=CMD), started=0.0)
    assert health.record(result(1, "refused"), began=0.1)
    assert not health.record(result(1, "refused"), began=0.2)
    assert health.record(result(1, "not ready"), began=0.3)
    assert health.record(result(0), began=0.4)
    assert health.record(result(0), began=30.4)


def test_goes_on_from_what_was_before() -> None:
    config = probe.Config(argv=CMD, interval=1.0)
    health = probe.Health(config, started=0.0)
    run(health, ".xx")
    again = probe.Health(config, started=0.0, before=health.to_json())
    assert run(again, "x", at=10.0) == ["unhealthy"]
    assert probe.Health(config, started=0.0, before={"status": "odd"}).status is probe.Status.STARTING


def test_text_is_capped() -> None:
    assert probe.text(b"ok\n") == "ok\n"
    assert probe.text(b"x" * 5000) == "x" * 4096 + "..."
    assert probe.text(b"\xff") == "\ufffd"
