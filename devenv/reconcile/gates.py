"""What a container's start comes after: the conditions of `depends_on`, as operations. Pure.

A condition that holds already costs nothing. `service_started` is met by the starts themselves; the others become one
``container.wait`` a service and condition, which all who ask for it share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from devenv.reconcile import observed, plan

STARTED = "service_started"
HEALTHY = "service_healthy"
COMPLETED = "service_completed_successfully"

_WORDS = {STARTED: "started", HEALTHY: "healthy", COMPLETED: "completed"}

DependsOn = Mapping[str, Mapping[str, Any]]


class Gates:
    """Ask in dependency order, and tell each service's starts before its dependents ask."""

    def __init__(
        self,
        builder: plan.Builder,
        *,
        depends_on: Mapping[str, DependsOn],  # of the services that take part; others impose nothing
        there: Mapping[str, Sequence[observed.Container]],  # containers that stay
        starting: Iterable[str],  # services of which something starts
    ) -> None:
        self._builder = builder
        self._depends_on = depends_on
        self._there = there
        self._starts: dict[str, list[str]] = {}
        self._waits: dict[tuple[str, str], str] = {}
        self._askers: dict[tuple[str, str], list[str]] = {}
        self._required: set[tuple[str, str]] = set()
        for service in sorted(starting):
            for name, terms in depends_on.get(service, {}).items():
                key = (name, _condition(terms))
                self._askers.setdefault(key, []).append(service)
                if terms.get("required") is not False:
                    self._required.add(key)

    def started_by(self, service: str, operation: str) -> None:
        self._starts.setdefault(service, []).append(operation)

    def before(self, service: str) -> tuple[list[str], list[str]]:
        """Operations that must have succeeded, and those that must only be over (of optional dependencies)."""
        after: list[str] = []
        after_ended: list[str] = []
        for name, terms in sorted(self._depends_on.get(service, {}).items()):
            if name not in self._depends_on or not (self._starts.get(name) or self._there.get(name)):
                continue
            gates = self._operations(name, _condition(terms))
            (after_ended if terms.get("required") is False else after).extend(gates)
        return after, after_ended

    def _operations(self, name: str, condition: str) -> list[str]:
        starts = self._starts.get(name, [])
        if condition == STARTED and starts:
            return starts
        if not starts and holds(condition, self._there.get(name, ())):
            return []
        key = (name, condition)
        if key not in self._waits:
            askers = ", ".join(f"`{asker}`" for asker in self._askers.get(key, []))
            verb = "need" if len(self._askers.get(key, [])) > 1 else "needs"
            self._waits[key] = self._builder.add(
                plan.Type.CONTAINER_WAIT,
                f"service:{name}",
                f"{askers} {verb} it {_WORDS.get(condition, condition)}",
                after=starts,
                service=name,
                condition=condition,
                askers=tuple(self._askers.get(key, ())),
                required=key in self._required,
            )
        return [self._waits[key]]


def holds(condition: str, containers: Sequence[observed.Container]) -> bool:
    """Whether it is true of every one of them now."""
    if condition == COMPLETED:
        return all(each.state == observed.State.STOPPED and each.exit_code == 0 for each in containers)
    if condition == HEALTHY:
        return all(each.state == observed.State.RUNNING and each.health == "healthy" for each in containers)
    return all(each.active for each in containers)


def _condition(terms: Mapping[str, Any]) -> str:
    return str(terms.get("condition") or STARTED)
