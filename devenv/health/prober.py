"""Probes a container for as long as it runs: the clock and the commands round `devenv.health.probe`.

One task a container; whoever knows that the container has ended cancels it. What is tried each time is a function that
is handed in, which must itself end what takes longer than it may.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from devenv import errors
from devenv.health import probe

# Seconds that it may take -> exit code, None when the time was over, and the output
Attempt = Callable[[float], Awaitable[tuple[int | None, bytes]]]
Changed = Callable[[dict[str, Any]], None]

# Beyond a probe's own time, for killing it; a runner that is stuck even then counts as a timeout.
GRACE = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    now: Callable[[], float] = time.monotonic  # a step of the wall clock is no time that passed
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def watch(
    config: probe.Config | None,
    *,
    attempt: Attempt,
    changed: Changed,
    uptime: float = 0.0,
    before: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
) -> None:
    """Probe until cancelled, or until there is nothing more to know. ``changed`` gets the health, as health.json has
    it, whenever there is news of it.

    A new supervisor takes a running container up by its ``uptime`` and the health ``before`` it came.
    """
    if config is None:
        return
    clock = clock or Clock()
    health = probe.Health(config, started=clock.now() - uptime, before=before)
    while not health.over:
        await clock.sleep(health.delay(clock.now()))
        began = clock.now()
        result = await _probe(config, attempt=attempt, clock=clock)
        if health.record(result, began=began):
            changed(health.to_json())


async def _probe(config: probe.Config, *, attempt: Attempt, clock: Clock) -> probe.Result:
    start = clock.wall()
    code: int | None = None
    output = b""
    try:
        async with asyncio.timeout(config.timeout + GRACE):
            code, output = await attempt(config.timeout)
    except TimeoutError:
        pass
    except (errors.DevenvError, OSError) as exc:
        code, output = probe.TIMED_OUT, str(exc).encode()
    if code is None:
        said = f": {output.decode('utf-8', 'replace')}" if output.strip() else ""
        code, output = probe.TIMED_OUT, f"the check took longer than {config.timeout:g}s{said}".encode()
    return probe.Result(start=start, end=clock.wall(), exit_code=code, output=probe.text(output))
