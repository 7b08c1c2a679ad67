"""How often and after which pauses a request is repeated. Pure, but for the waiting that it is given."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from devenv.image.registry import errors

T = TypeVar("T")

LONGEST_WISH = 60.0  # a registry that wants more patience than this is an error to tell


class Policy(NamedTuple):
    attempts: int = 5
    first: float = 0.4
    longest: float = 15.0

    def pause(self, failures: int, wish: float | None, *, chance: float | None = None) -> float:
        """Seconds before the next attempt. Half of the growing part is left to chance, so that clients that failed
        together don't come back together."""
        grown: float = min(self.longest, self.first * 2 ** (failures - 1))
        share = random.random() if chance is None else chance
        return max(wish or 0.0, grown * (0.5 + share / 2))


DEFAULT = Policy()


def retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """RFC 9110, 10.2.3: seconds or a date."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))


def call(
    function: Callable[[], T],
    policy: Policy,
    *,
    sleep: Callable[[float], None],
    progressed: Callable[[], bool] = lambda: False,
) -> T:
    """``function`` until it succeeds or is not worth repeating. ``progressed`` tells whether the attempt got further
    than the one before, which starts the count anew: a line that drops every minute still delivers in the end."""
    failures = 0
    while True:
        try:
            return function()
        except errors.Temporary as exc:
            failures = 1 if progressed() else failures + 1
            if failures >= policy.attempts or (exc.delay or 0.0) > LONGEST_WISH:
                raise exc.error from exc
            sleep(policy.pause(failures, exc.delay))
