"""A plan: what is to be done, in which order, and why. Data only.

An operation names the resource it acts upon (``service:web:1``, ``network:default``, ``volume:data``) and its
**cause** in words. ``after`` are the operations that must have succeeded before it begins; ``after_ended`` those that
must only be over, however they ended (an optional dependency, the next container of a `down`). Everything else may run
at once. The text form is what ``devenv plan`` prints and what tests assert, so it is the same for the same input.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

# The cause of what a command names; whoever has typed it needs no reason beside it.
ASKED_FOR = "asked for"


class Type(StrEnum):
    NETWORK_CREATE = "network.create"
    NETWORK_RECREATE = "network.recreate"
    NETWORK_REMOVE = "network.remove"
    VOLUME_CREATE = "volume.create"
    VOLUME_REMOVE = "volume.remove"
    CONTAINER_CREATE = "container.create"
    CONTAINER_UPDATE = "container.update"  # other limits for the same container, while it runs
    CONTAINER_PREPARE = "container.prepare"  # its `pre_start` hooks
    CONTAINER_START = "container.start"
    CONTAINER_WAIT = "container.wait"  # until the condition holds for every container of the service
    CONTAINER_STOP = "container.stop"
    CONTAINER_KILL = "container.kill"
    CONTAINER_REMOVE = "container.remove"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    id: str  # stable: made of the type and the resource
    type: Type
    resource: str
    cause: str
    after: tuple[str, ...] = ()  # ids: these must have succeeded
    after_ended: tuple[str, ...] = ()  # ids: these must be over, well or not

    name: str = ""  # of the network or volume: its full name; of an observed container: its name
    service: str = ""
    number: int = 0  # which replica; 0 for a whole service
    container_id: str = ""  # the observed container it acts upon; empty when this plan creates it
    every: bool = False  # prepare: all hooks, not only those that each replica has
    replaces: str = ""  # create: the id of the container whose anonymous volumes the new one takes over
    condition: str = ""  # wait: service_healthy, service_completed_successfully, service_started
    askers: tuple[str, ...] = ()  # wait: the services that want it
    required: bool = True  # wait: False when nobody fails if the condition doesn't come true
    resumes: bool = False  # stop: the plan starts the same container again, so nobody asked for it to stay down
    signal: str = ""  # kill
    timeout: float | None = None  # stop: seconds before SIGKILL; None means the service's own grace period
    volumes: bool = False  # remove: anonymous volumes go with it

    @property
    def waits(self) -> bool:
        """It may be given up at any moment: nothing that it has begun stays half made."""
        return self.type in {Type.CONTAINER_WAIT, Type.CONTAINER_PREPARE}

    def to_json(self) -> dict[str, Any]:
        """Without the parameters that say nothing."""
        always = {"id", "type", "resource", "cause", "after"}
        found: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in always or value != field.default:
                found[field.name] = list(value) if isinstance(value, tuple) else value
        found["type"] = str(self.type)
        return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A job that is not run again."""

    resource: str
    cause: str
    service: str
    name: str  # the container's

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    operations: tuple[Operation, ...] = ()  # each stands behind all it comes after
    notes: tuple[str, ...] = ()  # what the user should know and no operation says
    done: tuple[Done, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.operations

    @property
    def counts(self) -> dict[str, int]:
        """How many operations of each type, by the type's name."""
        return dict(sorted(Counter(str(operation.type) for operation in self.operations).items()))

    def to_text(self) -> str:
        """One line an operation: its place, what it does to what, why, and what it waits for."""
        if not self.operations:
            return "".join(["nothing to do\n", *self._note_lines()])
        places = {operation.id: place for place, operation in enumerate(self.operations, 1)}
        first = len(str(len(self.operations)))
        second = max(len(operation.type) for operation in self.operations)
        third = max(len(operation.resource) for operation in self.operations)
        lines = []
        for operation in self.operations:
            line = f"{places[operation.id]:>{first}}  {operation.type:<{second}}  {operation.resource:<{third}}  "
            line += f"({operation.cause})"
            if operation.after:
                line += f" after {_list(places, operation.after)}"
            if operation.after_ended:
                line += f" once ended {_list(places, operation.after_ended)}"
            lines.append(f"{line}\n")
        return "".join([*lines, *self._note_lines()])

    def to_json(self) -> dict[str, Any]:
        return {
            "operations": [operation.to_json() for operation in self.operations],
            "notes": list(self.notes),
            "done": [each.to_json() for each in self.done],
        }

    def _note_lines(self) -> list[str]:
        done = [f"done: {each.resource} ({each.cause})\n" for each in self.done]
        return [*done, *(f"note: {note}\n" for note in self.notes)]


def _list(places: dict[str, int], ids: Iterable[str]) -> str:
    return ", ".join(str(place) for place in sorted(places[name] for name in ids))


class Builder:
    """Gathers operations in any order; ``plan()`` puts each behind what it comes after."""

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}
        self._notes: list[str] = []
        self._done: list[Done] = []

    def add(
        self,
        type: Type,
        resource: str,
        cause: str,
        *,
        after: Iterable[str] = (),
        after_ended: Iterable[str] = (),
        **parameters: Any,
    ) -> str:
        """Returns the operation's id."""
        base = f"{type} {resource}"
        if type is Type.CONTAINER_WAIT:
            base = f"{base} {parameters['condition']}"
        name, copies = base, 1
        while name in self._operations:
            # Two containers with one number: a supervisor was killed between making the new and removing the old.
            copies += 1
            name = f"{base}#{copies}"
        hard = dict.fromkeys(after)
        self._operations[name] = Operation(
            id=name,
            type=type,
            resource=resource,
            cause=cause,
            after=tuple(sorted(hard)),
            after_ended=tuple(sorted(set(after_ended).difference(hard))),
            **parameters,
        )
        return name

    def note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def done(self, done: Done) -> None:
        self._done.append(done)

    def __contains__(self, name: str) -> bool:
        return name in self._operations

    def plan(self) -> Plan:
        """Of those that could come next, the one that was added first does, so the order is always the same."""
        places = {name: place for place, name in enumerate(self._operations)}
        missing: dict[str, int] = {}
        following: dict[str, list[str]] = {name: [] for name in self._operations}
        for name, operation in self._operations.items():
            before = [*operation.after, *operation.after_ended]
            missing[name] = len(before)
            for other in before:
                following[other].append(name)
        ready = [(places[name], name) for name, count in missing.items() if not count]
        heapq.heapify(ready)
        ordered = []
        while ready:
            _, name = heapq.heappop(ready)
            ordered.append(self._operations[name])
            for other in following[name]:
                missing[other] -= 1
                if not missing[other]:
                    heapq.heappush(ready, (places[other], other))
        if len(ordered) < len(self._operations):
            left = sorted(set(self._operations).difference(operation.id for operation in ordered))
            raise RuntimeError(f"operations wait for each other: {', '.join(left)}")
        return Plan(operations=tuple(ordered), notes=tuple(self._notes), done=tuple(self._done))
