"""Which services a service needs, and why: read from one canonical service. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

STARTED = "service_started"

_NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One service needs another."""

    needs: str
    kinds: tuple[str, ...]  # the attributes that say so, in alphabetical order
    condition: str = STARTED
    required: bool = True
    restart: bool = False  # follow the dependency when it is made again

    @property
    def at_start(self) -> bool:
        """A build that takes another service's image needs nothing of it to run."""
        return self.kinds != ("build",)


def of(service: Mapping[str, Any]) -> tuple[Edge, ...]:
    """All that a canonical service needs, by name. `depends_on` sets the terms; the others only imply a start."""
    kinds: dict[str, set[str]] = {}
    implied_restart: set[str] = set()
    for name, kind, restart in _implied(service):
        kinds.setdefault(name, set()).add(kind)
        if restart:
            implied_restart.add(name)
    given = _depends_on(service)
    for name in given:
        kinds.setdefault(name, set()).add("depends_on")
    return tuple(
        Edge(
            needs=name,
            kinds=tuple(sorted(kinds[name])),
            condition=str(given.get(name, {}).get("condition") or STARTED),
            required=given.get(name, {}).get("required") is not False,
            restart=bool(given[name].get("restart")) if name in given else name in implied_restart,
        )
        for name in sorted(kinds)
    )


def depends_on(service: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What must be there before a container of it starts, in the long form of `depends_on`."""
    return {
        edge.needs: {"condition": edge.condition, "required": edge.required, "restart": edge.restart}
        for edge in of(service)
        if edge.at_start
    }


def _depends_on(service: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    given = service.get("depends_on") or {}
    if isinstance(given, Mapping):
        return {name: terms or {} for name, terms in given.items()}
    return {name: {} for name in given}


def _implied(service: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Name, attribute, and whether it follows a recreated dependency, as Compose normalises them."""
    found = [(str(link).partition(":")[0], "links", True) for link in service.get("links") or []]
    for attribute in _NAMESPACES:
        kind, colon, name = str(service.get(attribute) or "").partition(":")
        if kind == "service" and colon:
            found.append((name, attribute, True))
    for source in service.get("volumes_from") or []:
        if not str(source).startswith("container:"):
            found.append((str(source).partition(":")[0], "volumes_from", False))
    build = service.get("build")
    contexts = (build.get("additional_contexts") or {}) if isinstance(build, Mapping) else {}
    pairs = contexts.values() if isinstance(contexts, Mapping) else [str(c).partition("=")[2] for c in contexts]
    for context in pairs:
        kind, colon, name = str(context).partition(":")
        if kind == "service" and colon:
            found.append((name, "build", False))
    return found
