"""Waiting for something to become true. The only place where tests sleep."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# How many times slower than usual this machine may be: an emulated one is, very much.
PATIENCE = float(os.environ.get("DEVENV_TEST_PATIENCE") or 1)


def eventually(
    predicate: Callable[[], T | None], timeout: float = 10.0, *, interval: float = 0.02, describe: str = ""
) -> T:
    """The first true value of ``predicate()``. An AssertionError in it counts as not yet true.

    Fails with the last value or the last AssertionError when the time is over.
    """
    end = time.monotonic() + timeout * PATIENCE
    while True:
        problem: AssertionError | None = None
        try:
            value = predicate()
        except AssertionError as error:
            problem = error
        else:
            if value:
                return value
        if time.monotonic() > end:
            if problem is not None:
                raise problem
            raise AssertionError(f"not within {timeout:g} s: {describe or predicate!r}, last value: {value!r}")
        time.sleep(interval)


def always(predicate: Callable[[], object], seconds: float, *, interval: float = 0.05) -> None:
    """Fails as soon as ``predicate()`` is not true during these seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = predicate()
        assert value, f"became {value!r}"
        time.sleep(interval)
