"""`pre_start` as operations: what has to be done before containers run for the first time. Pure.

Hooks are the service's: they run once, with the first of its containers that was never started, and the others wait
for that. Those that are `per_replica` run for each. A container that is started once more needs none; one that is
made again does, and a hook that has failed is run again, since its container was never started.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from devenv.reconcile import plan


class Start(NamedTuple):
    """A container that is about to be started."""

    number: int
    fresh: bool  # it never ran
    container_id: str  # "" while this plan makes it
    name: str
    after: Sequence[str]  # operations


def add(
    builder: plan.Builder,
    service: str,
    hooks: Sequence[bool],
    starts: Iterable[Start],
    *,
    ran: bool,
    after_ended: Sequence[str] = (),
) -> dict[int, list[str]]:
    """By number, what a start comes after. ``hooks``: whether each is `per_replica`; ``ran``: one of its containers."""
    fresh = sorted((each for each in starts if each.fresh), key=lambda each: each.number)
    if not hooks or not fresh:
        return {}
    leading: list[str] = []
    found: dict[int, list[str]] = {}
    for each in fresh:
        every = not ran and not leading and not all(hooks)
        if not every and not any(hooks):
            found[each.number] = leading
            continue
        operation = builder.add(
            plan.Type.CONTAINER_PREPARE,
            f"service:{service}:{each.number}",
            "its `pre_start` hooks",
            after=[*each.after, *leading],
            after_ended=after_ended,
            service=service,
            number=each.number,
            container_id=each.container_id,
            name=each.name,
            every=every,
        )
        found[each.number] = [operation]
        if every:
            leading = [operation]
    return found
