"""`pre_start` in plans: once for the service, or for each replica, and only before a first start."""

from __future__ import annotations

from typing import Any

from devenv.reconcile import observed, planner
from tests.support import shop
from tests.support.shop import container, service, there

ONCE, EACH = False, True


def up(hooks: tuple[bool, ...], *seen: observed.Container, replicas: int = 2, **options: Any) -> str:
    desired = shop.pair(api=service("api", replicas=replicas, pre_start=hooks))
    plan = planner.plan_up(desired, there(container("db"), *seen), planner.UpOptions(**options))
    return shop.lines(plan.to_text())


def test_once_and_the_others_wait() -> None:
    assert up((ONCE,)) == shop.table("""
        1 container.create service:api:1 (there is none yet)
        2 container.create service:api:2 (there is none yet)
        3 container.prepare service:api:1 (its `pre_start` hooks) after 1
        4 container.start service:api:1 (created) after 1, 3
        5 container.start service:api:2 (created) after 2, 3
    """)


def test_once_and_for_each() -> None:
    assert up((ONCE, EACH)) == shop.table("""
        1 container.create service:api:1 (there is none yet)
        2 container.create service:api:2 (there is none yet)
        3 container.prepare service:api:1 (its `pre_start` hooks) after 1
        4 container.prepare service:api:2 (its `pre_start` hooks) after 2, 3
        5 container.start service:api:1 (created) after 1, 3
        6 container.start service:api:2 (created) after 2, 4
    """)


def test_another_replica_needs_only_its_own() -> None:
    assert "prepare" not in up((ONCE,), container("api"))
    (operation,) = [
        each
        for each in planner.plan_up(
            shop.pair(api=service("api", replicas=2, pre_start=(ONCE, EACH))), there(container("db"), container("api"))
        ).operations
        if each.type == "container.prepare"
    ]
    assert (operation.number, operation.every) == (2, False)


def test_again_when_it_is_made_again_or_has_failed() -> None:
    assert "prepare service:api:1" in up((ONCE,), container("api"), replicas=1, recreate="force")
    failed = container("api", state="created", ever_started=False)
    assert "prepare service:api:1" in up((ONCE,), failed, replicas=1)
    assert "prepare" not in up((ONCE,), shop.stopped("api"), replicas=1)


def test_start_of_one_that_was_only_created() -> None:
    created = container("api", state="created", ever_started=False, pre_start=(ONCE,))
    assert shop.lines(planner.plan_start(there(created)).to_text()) == shop.table("""
        1 container.prepare service:api:1 (its `pre_start` hooks)
        2 container.start service:api:1 (asked for) after 1
    """)
