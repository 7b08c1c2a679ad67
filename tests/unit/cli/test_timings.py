from __future__ import annotations

from devenv.cli import timings
from devenv.reconcile import journal


def step(name: str, began: float, ended: float, *after: str, run: str = "2") -> journal.Entry:
    return {
        "kind": "operation",
        "run": run,
        "id": name,
        "type": "container.start",
        "resource": name,
        "began": began,
        "time": ended,
        "after": list(after),
    }


def test_the_chain_that_decided_it() -> None:
    entries = [
        step("old", 0, 9, run="1"),
        step("network", 0.0, 0.1),
        step("db", 0.1, 2.0, "network"),
        step("cache", 0.1, 0.4, "network"),
        step("web", 2.0, 2.5, "db", "cache"),
        step("aside", 0.1, 2.4),
    ]
    steps = timings.last_run(entries)
    assert set(steps) == {"network", "db", "cache", "web", "aside"}
    assert timings.critical_path(steps) == {"web", "db", "network"}


def test_nothing_was_started() -> None:
    assert timings.last_run([{"kind": "event", "action": "die"}]) == {}
