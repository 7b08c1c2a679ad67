"""Why a build did a step anew: what it depends on, compared with what it depended on the time before.

    <data>/build/last/<id>.json     of each image that was built: its steps with what went into their keys

A file's change is told by its step's words, not by its own name: the key holds one digest of all that is selected.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from devenv.build import cache, graph, request
from devenv.util import fs, paths

VERSION = 1


class Step(NamedTuple):
    name: str
    cached: bool
    reasons: tuple[str, ...]  # why it was not


class Build(NamedTuple):
    tags: tuple[str, ...]
    service: str
    when: float
    steps: tuple[Step, ...]


class Done(NamedTuple):
    """A step of this build, as ``record`` takes it."""

    name: str
    below: str  # the chain id of what lies below
    parts: Mapping[str, Any]
    cached: bool
    fresh: bool  # was not looked for


def record(where: paths.Paths, given: request.Request, done: Sequence[Done], *, now: float | None = None) -> None:
    path = _path(where, given)
    before = _steps(fs.read_json(path))
    steps = []
    broken = ""
    for number, each in enumerate(done):
        earlier = _counterpart(before, number, each.name)
        reasons = [] if each.cached else _reasons(each, earlier, broken)
        steps.append(
            {
                "name": each.name,
                "below": each.below,
                "parts": dict(each.parts),
                "cached": each.cached,
                "reasons": reasons,
            }
        )
        if not each.cached:
            broken = broken or each.name
    value = {
        "version": VERSION,
        "tags": list(given.tags),
        "service": given.service,
        "time": time.time() if now is None else now,
        "steps": steps,
    }
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    fs.write_json(path, value)


def find(where: paths.Paths, tag: str) -> Build | None:
    """The last build of an image, by a name in full."""
    folder = f"{where.data}/build/last"
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        value = fs.read_json(f"{folder}/{name}")
        if isinstance(value, dict) and value.get("version") == VERSION and tag in value["tags"]:
            found.append(value)
    if not found:
        return None
    last = max(found, key=lambda value: float(value["time"]))
    steps = tuple(Step(each["name"], each["cached"], tuple(each["reasons"])) for each in last["steps"])
    return Build(tuple(last["tags"]), last["service"], last["time"], steps)


def _path(where: paths.Paths, given: request.Request) -> str:
    name = graph.identity(given.context, given.dockerfile, given.inline, given.target, list(given.tags))
    return f"{where.data}/build/last/{name}.json"


def _steps(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, dict) or value.get("version") != VERSION:
        return []
    found: list[dict[str, Any]] = value["steps"]
    return found


def _counterpart(before: Sequence[Mapping[str, Any]], number: int, name: str) -> Mapping[str, Any] | None:
    """The same instruction of the build before, or else the one in its place."""
    same = next((each for each in before if _bare(each["name"]) == _bare(name)), None)
    return same or (before[number] if number < len(before) else None)


def _bare(name: str) -> str:
    return name.partition("] ")[2]


def _reasons(each: Done, earlier: Mapping[str, Any] | None, broken: str) -> list[str]:
    if each.fresh:
        return ["it was asked to be done anew"]
    if earlier is None:
        return ["it was not built before"]
    reasons = cache.changed(earlier["parts"], each.parts)
    if earlier["below"] != each.below:
        reasons.append(f"what lies below it changed, by `{broken}`" if broken else "the image it is built upon changed")
    return reasons or ["its result was not kept"]
