from __future__ import annotations

from typing import Any

import pytest

from devenv import errors
from devenv.reconcile import pulling

DAY = 86400.0


def wish(policy: str | None = None, *, override: str = "", **more: Any) -> pulling.Wish:
    service = {"image": "redis:7", **more}
    if policy:
        service["pull_policy"] = policy
    return pulling.wish("web", service, override=override)


@pytest.mark.parametrize(
    ("policy", "age", "due"),
    [
        ("always", None, True),
        ("always", 0.0, True),
        (None, None, True),
        (None, 100 * DAY, False),
        ("missing", None, True),
        ("missing", 100 * DAY, False),
        ("build", None, False),
        ("build", 0.0, False),
        ("never", None, False),
        ("never", 0.0, False),
        ("daily", None, True),
        ("daily", DAY - 1, False),
        ("daily", DAY, True),
        ("weekly", 7 * DAY - 1, False),
        ("weekly", 7 * DAY, True),
        ("every_12h", DAY / 2 - 1, False),
        ("every_12h", DAY / 2, True),
        ("every_1w2d3h4m5s", 9 * DAY + 3 * 3600 + 244, False),
        ("every_1w2d3h4m5s", 9 * DAY + 3 * 3600 + 245, True),
        ("every_0s", 0.0, True),
    ],
)
def test_when_one_looks_in_the_registry(policy: str | None, age: float | None, due: bool) -> None:
    now = 1000 * DAY
    assert pulling.is_due(wish(policy), None if age is None else now - age, now) is due


def test_refresh() -> None:
    hourly = wish("refresh", pull_refresh_after="1h")
    assert not pulling.is_due(hourly, 0.0, 3599.0)
    assert pulling.is_due(hourly, 0.0, 3600.0)
    assert pulling.is_due(wish("refresh"), 0.0, 0.0)


def test_the_command_line_wins() -> None:
    assert wish("never", override="always").policy == "always"
    assert wish("daily", override="missing").span is None
    assert wish("daily", override="policy").span == DAY


def test_what_has_no_image() -> None:
    with pytest.raises(errors.ContainerError, match="neither `image` nor `build`"):
        pulling.wish("web", {})


@pytest.mark.parametrize("policy", ["always", "missing", "daily", "build"])
def test_what_is_built_is_never_looked_for(policy: str) -> None:
    built = wish(policy, build={"context": "/src"})
    assert built.buildable
    assert not pulling.follows(built)
    assert not pulling.is_due(built, None, 1000 * DAY)
