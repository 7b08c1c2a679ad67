"""What is worth an entry in the journal: see ``journal``."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable

from devenv.reconcile import journal, live, plan

Perform = Callable[[plan.Operation], Awaitable[None]]


def event(book: journal.Journal, container: live.Live, action: str, now: float) -> None:
    """Of a container, as ``devenv events`` shows them later; with what explains it."""
    ended = action in {"die", "oom"}
    book.add(
        "event",
        time=now,
        action=action,
        id=container.id,
        container=container.record.name,
        image=container.record.image,
        service=container.record.service,
        exit_code=container.exit_code if ended else None,
        oom=container.oom_killed or None if ended else None,
        health=container.health_status if action == "health_status" else None,
        last=container.seen().last_output[-500:] if action == "health_status" else None,
        restarts=container.restarts if action == "start" and container.restarts else None,
        asked=container.stopped_by_user or None if ended else None,
        then="" if not ended else "restart" if container.status == "restarting" else container.gave_up_because,
        crash_loop=container.crash_loop or None if ended else None,
    )


def revival(book: journal.Journal, container: live.Live, last: str) -> None:
    """It was started again because of its check. Of no plan, so ``timings`` passes it over."""
    cause = f"it was unhealthy: {last[-500:]}" if last else "it was unhealthy"
    book.add(
        "operation",
        time=time.time(),
        type=str(plan.Type.CONTAINER_START),
        service=container.record.service,
        cause=cause,
    )


class Recorder:
    """Of one plan: what each operation took, and what it came after."""

    def __init__(self, book: journal.Journal, perform: Perform) -> None:
        self._book = book
        self._perform = perform
        self._run = f"{time.time():.6f}-{os.getpid()}"

    async def perform(self, operation: plan.Operation) -> None:
        began = time.time()
        error = ""
        try:
            await self._perform(operation)
        except BaseException as exc:
            error = str(exc) or type(exc).__name__
            raise
        finally:
            self._book.add(
                "operation",
                run=self._run,
                time=time.time(),
                began=began,
                id=operation.id,
                type=str(operation.type),
                resource=operation.resource,
                service=operation.service,
                condition=operation.condition,
                cause=operation.cause,
                after=[*operation.after, *operation.after_ended] or None,
                error=error,
            )
