"""What is there: one snapshot of a project's containers, networks and volumes, taken before planning.

Data only. The loop fills it from the records and states on disk; the planner compares it with what is desired. It
carries enough to take everything down without the spec: what each container depends on is kept with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class State(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"  # it ended, and its restart policy brings it back shortly
    STOPPED = "stopped"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    id: str
    name: str
    service: str
    number: int
    oneoff: bool = False
    config_digest: str = ""
    sections: Mapping[str, str] = dataclasses.field(default_factory=dict)  # attribute -> digest of its value
    image_id: str = ""
    state: str = State.CREATED
    exit_code: int | None = None  # None also when nobody saw it end
    health: str = ""  # "" without a check, else starting, healthy, unhealthy
    networks: tuple[str, ...] = ()  # full names
    volumes: tuple[str, ...] = ()  # full names; anonymous ones too
    depends_on: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    pre_start: tuple[bool, ...] = ()  # its hooks: whether each is for every replica
    ever_started: bool = False
    stopped_by_user: bool = False
    created: float = 0.0  # seconds since the epoch
    changed: str = ""  # of a job that ended well: what is not as it was when it ran, in words

    @property
    def runs(self) -> bool:
        """A process of it is there."""
        return self.state in {State.RUNNING, State.PAUSED}

    @property
    def ended_well(self) -> bool:
        """By itself."""
        return self.state == State.STOPPED and self.exit_code == 0 and not self.stopped_by_user

    @property
    def active(self) -> bool:
        """It runs, or will by itself: stopping it means something."""
        return self.runs or self.state == State.RESTARTING


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    name: str  # the full name: ``shop_default``
    key: str = ""  # what the spec calls it; empty when that is not known
    digest: str = ""  # of its definition


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    name: str
    key: str = ""
    digest: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    project_id: str = ""
    containers: tuple[Container, ...] = ()
    networks: tuple[Network, ...] = ()
    volumes: tuple[Volume, ...] = ()  # named ones only
