"""`once:` of a service: whether it is a job that is done once, and again only when what it is made of has changed.

once: true                          a job, although nobody waits for its end
once: false                         run at each `up`, although somebody does
once: {inputs: [migrations/**]}     and of the files that it has mounted only these count
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Once(NamedTuple):
    wanted: bool
    inputs: tuple[str, ...] | None = None  # patterns, relative to the project's folder; None: all that it mounts


def of(service: Mapping[str, Any]) -> Once | None:
    """None where the service says nothing of it."""
    given = service.get("once")
    given = (service.get("x-devenv") or {}).get("once") if given is None else given
    return None if given is None else parse(given)


def parse(given: Any) -> Once:
    """Raises ``ValueError``."""
    if isinstance(given, bool):
        return Once(given)
    inputs = given.get("inputs") if isinstance(given, Mapping) else None
    if not isinstance(inputs, list) or not all(isinstance(each, str) and each for each in inputs):
        raise ValueError("`once` is true, false or {inputs: [PATTERN, …]}")
    for each in inputs:
        if each.startswith("/") or ".." in each.split("/"):
            raise ValueError(f"`once.inputs: {each}` leads out of the project's folder")
    return Once(True, tuple(inputs))
