"""Restart policies: whether a container that has ended is started again, and when. Pure.

The wait doubles from 100 ms to a minute and begins anew once the container has been up for ten seconds, as Docker
has it. `deploy.restart_policy` adds what Swarm has: its `delay` replaces the doubling, `max_attempts` counts for every
condition, and an uptime of `window` makes the count begin anew.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from devenv import errors
from devenv.reconcile import units

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
CALM = 10.0  # seconds up after which a crash is a new story
LOOPS_AFTER = 5  # restarts in a row, 3.1 s of waiting, that make a crash loop


class Condition(StrEnum):
    NONE = "none"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless-stopped"


_DEPLOY = {"none": Condition.NONE, "on-failure": Condition.ON_FAILURE, "any": Condition.ALWAYS, "": Condition.ALWAYS}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    condition: Condition = Condition.NONE
    max_attempts: int = 0  # 0 means without limit
    delay: float = 0.0  # seconds; 0 means the doubling one
    window: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The short form: ``no``, ``always``, ``unless-stopped``, ``on-failure`` or ``on-failure:3``."""
        name, colon, count = text.strip().partition(":")
        if name in {"", "no", "none"} and not colon:
            return cls()
        if name == Condition.ON_FAILURE:
            if not colon:
                return cls(condition=Condition.ON_FAILURE)
            if count.isascii() and count.isdigit():
                return cls(condition=Condition.ON_FAILURE, max_attempts=int(count))
        elif name in {Condition.ALWAYS, Condition.UNLESS_STOPPED} and not colon:
            return cls(condition=Condition(name))
        raise errors.SpecError(
            f"`restart: {text}` is not a restart policy",
            hint='use "no", "always", "unless-stopped", "on-failure" or "on-failure:N"',
        )

    @classmethod
    def from_deploy(cls, given: Mapping[str, Any]) -> Policy:
        """`deploy.restart_policy`, whose condition is `any` unless it says otherwise."""
        name = str(given.get("condition") or "")
        if name in {Condition.ALWAYS, Condition.UNLESS_STOPPED}:
            condition = Condition(name)
        elif name in _DEPLOY:
            condition = _DEPLOY[name]
        else:
            raise errors.SpecError(
                f"`deploy.restart_policy.condition: {name}` is not a condition", hint="use none, on-failure or any"
            )
        return cls(
            condition=condition,
            max_attempts=int(given.get("max_attempts") or 0),
            delay=units.seconds(given.get("delay") or 0),
            window=units.seconds(given.get("window") or 0),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Policy:
        return cls(
            condition=Condition(data.get("condition", "none")),
            max_attempts=int(data.get("max_attempts", 0)),
            delay=float(data.get("delay", 0.0)),
            window=float(data.get("window", 0.0)),
        )

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "condition": str(self.condition)}


class Restart(NamedTuple):
    delay: float  # seconds
    runs: int  # restarts so far, with this one: what the next decision wants to know
    streak: int  # those of them without a calm spell between

    @property
    def crash_loop(self) -> bool:
        """It has been coming back and dying for so long that the user should be told."""
        return self.streak >= LOOPS_AFTER


class GiveUp(NamedTuple):
    reason: str


def decide(
    policy: Policy,
    *,
    exit_code: int | None,
    runs: int,
    uptime: float,
    stopped_by_user: bool,
    streak: int | None = None,
) -> Restart | GiveUp:
    """What to do with a container that has just ended.

    ``exit_code`` None means that nobody saw how it ended, which counts as a failure. ``runs`` are the restarts since
    somebody started it by hand; ``streak`` those without a calm spell, the same number where it is not kept apart.
    """
    if stopped_by_user:
        return GiveUp("it was stopped on request")
    if policy.condition is Condition.NONE:
        return GiveUp("its restart policy is `no`")
    if policy.condition is Condition.ON_FAILURE and exit_code == 0:
        return GiveUp("it ended well")
    if policy.window and uptime >= policy.window:
        runs = 0
    if policy.max_attempts and runs >= policy.max_attempts:
        return GiveUp(f"it was restarted {_times(runs)} already, as often as its policy allows")
    in_a_row = 0 if uptime >= CALM else runs if streak is None else streak
    return Restart(delay=policy.delay or back_off(in_a_row), runs=runs + 1, streak=in_a_row + 1)


def back_off(streak: int) -> float:
    """The wait before the next restart, after ``streak`` of them in a row."""
    # 2 ** 10 is past the cap already, and a counter that ran for a year must not overflow a float.
    return min(LONGEST_DELAY, FIRST_DELAY * math.ldexp(1.0, min(max(streak, 0), 10)))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
