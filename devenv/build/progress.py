"""What a build tells while it goes on. A sink may show it live, or a line at a time; safe to be called from threads.

A step is a vertex of the graph, told of once even where two requests share it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import StrEnum
from typing import Any


class State(StrEnum):
    STARTED = "started"
    CACHED = "cached"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"
    OUTPUT = "output"  # a piece of what the step's command wrote
    PROGRESS = "progress"  # current of total
    WARNING = "warning"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Crosses a socket as JSON, so every field is a plain value."""

    id: str  # the same for all that is told of a vertex
    state: State
    name: str = ""  # `[build 2/5] RUN make`, as BuildKit writes it
    service: str = ""
    text: str = ""  # of OUTPUT, FAILED and WARNING
    stderr: bool = False  # where OUTPUT went
    current: int = 0
    total: int = 0
    time: float = 0.0  # seconds since the epoch

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Step:
        return cls(**{**data, "state": State(data["state"])})


Tell = Callable[[Step], None]
