"""Carries a plan out: every operation as soon as those it comes after are done, and no decisions.

An operation that fails takes along only what comes after it. Cancelling the run (a Ctrl-C, a `down` that overtakes
an `up`) lets operations that have begun come to their end, so that nothing stays half made, and begins no more.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

from devenv import errors
from devenv.reconcile import plan as plan_module

Perform = Callable[[plan_module.Operation], Awaitable[None]]


@dataclasses.dataclass(slots=True)
class Outcome:
    done: list[plan_module.Operation] = dataclasses.field(default_factory=list)
    failed: dict[str, errors.DevenvError] = dataclasses.field(default_factory=dict)  # operation id -> why
    skipped: list[plan_module.Operation] = dataclasses.field(default_factory=list)

    def raise_first(self) -> None:
        """Raise the first failure, with the others in its note."""
        if not self.failed:
            return
        first, *others = self.failed.values()
        others = [error for error in others if error.message != first.message]
        if others:
            first.note = "\n".join([*([first.note] if first.note else []), *(f"also: {error}" for error in others)])
        raise first


class _Stopped(Exception):
    """An operation before this one failed or was skipped."""


async def execute(plan: plan_module.Plan, perform: Perform) -> Outcome:
    """Returns when nothing is left to do. Unexpected exceptions of ``perform`` are raised once the rest has ended."""
    outcome = Outcome()
    finished: dict[str, asyncio.Future[None]] = {}
    loop = asyncio.get_running_loop()
    for operation in plan.operations:
        finished[operation.id] = loop.create_future()
    stopping = False

    async def one(operation: plan_module.Operation) -> None:
        mine = finished[operation.id]
        try:
            for before in operation.after_ended:
                await asyncio.wait({finished[before]})
            for before in operation.after:
                await asyncio.shield(finished[before])
            if stopping:
                raise _Stopped
            # Shielded: a cancelled run still lets what has begun come to its end.
            work = asyncio.ensure_future(perform(operation))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                if operation.waits:
                    work.cancel()
                await asyncio.wait({work})
                raise
            outcome.done.append(operation)
            mine.set_result(None)
        except errors.DevenvError as exc:
            outcome.failed[operation.id] = exc
            mine.set_exception(_Stopped())
        except _Stopped:
            outcome.skipped.append(operation)
            mine.set_exception(_Stopped())
        except BaseException:
            mine.set_exception(_Stopped())
            raise
        finally:
            if mine.done() and not mine.cancelled():
                mine.exception()  # seen, so that asyncio does not complain of it

    tasks = [asyncio.ensure_future(one(operation)) for operation in plan.operations]
    try:
        if tasks:
            await asyncio.wait(tasks)
    except asyncio.CancelledError:
        stopping = True
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    return outcome
