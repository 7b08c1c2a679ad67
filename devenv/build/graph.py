"""What a build consists of: steps that make layers, and what each of them needs to be done before.

A vertex goes by what it is, so what two requests share is one vertex. Its result is the root filesystem afterwards:
that of its first input with a layer more, or for a source what the image has.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from devenv.build import layers, steps
from devenv.build.dockerfile import instructions

Inputs = Sequence[layers.State]
Parts = Mapping[str, Any]  # plain values: what a result depends on


class Room(NamedTuple):
    """Where a step works, and how it is heard."""

    tools: layers.Tools
    folder: steps.Folder
    output: Callable[[str, bool], None]


class Work(Protocol):
    def describe(self) -> Any:
        """What it is, before anything is looked at: plain values, the same for the same step of two requests."""

    def parts(self, tools: layers.Tools, inputs: Inputs) -> Parts:
        """Everything the layer depends on but the vertex' first input, by content."""

    def perform(self, room: Room, inputs: Inputs, lower: tuple[str, ...]) -> None:
        """Fill the folder's ``upper`` on top of ``lower``. Raises what went wrong."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vertex:
    id: str
    name: str  # as people see it: `[build 2/5] RUN make`
    service: str = ""
    place: instructions.Place | None = None
    inputs: tuple[Vertex, ...] = ()
    work: Work | None = None  # None for a source
    source: layers.State = ()
    fresh: bool = False  # not from the cache
    alone: bool = False  # its layer is the same whatever lies below: COPY --link
    epoch: int | None = None


def identity(*values: Any) -> str:
    """Of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
