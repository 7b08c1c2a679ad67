"""`tasks:`, the commands of a project by name.

seed: python seed.py                   on this machine, by /bin/sh
lint: [ruff, check]                    on this machine, as it stands
check:
  command: [pytest, -q]
  service: web                         in a container of it that runs, else in one made for it
  depends_on: [seed, "service:db"]     other tasks; services, which are brought up and waited for
  inputs: ["src/**"]                   files; while none of them and nothing else here has changed, it is skipped
  outputs: [report.xml]                and as long as these are there
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SERVICE = "service:"  # before the name of one in `depends_on`


class Task(NamedTuple):
    name: str
    command: str | tuple[str, ...]  # a line for a shell, or words
    service: str = ""
    description: str = ""
    tasks: tuple[str, ...] = ()  # that it depends on
    services: tuple[str, ...] = ()
    environment: Mapping[str, str | None] = {}  # None: as it is where it is run from
    working_dir: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def parse_all(spec: Mapping[str, Any]) -> dict[str, Task]:
    """Those of `tasks` and of `x-devenv.tasks`, which wins. Raises ``ValueError``."""
    given = {**(spec.get("tasks") or {}), **((spec.get("x-devenv") or {}).get("tasks") or {})}
    return {name: parse(name, value) for name, value in given.items()}


def parse(name: str, given: Any) -> Task:
    if isinstance(given, str | list):
        given = {"command": given}
    command = given.get("command")
    words: str | tuple[str, ...] = command if isinstance(command, str) else tuple(map(str, command or ()))
    depends_on = _list(given.get("depends_on"))
    if not words and not depends_on:
        raise ValueError(f"task `{name}` has neither a command nor something that it depends on")
    if isinstance(words, tuple) and words and not words[0]:
        raise ValueError(f"the command of task `{name}` begins with an empty word")
    return Task(
        name=name,
        command=words,
        service=str(given.get("service") or ""),
        description=str(given.get("description") or ""),
        tasks=tuple(each for each in depends_on if not each.startswith(SERVICE)),
        services=tuple(each.removeprefix(SERVICE) for each in depends_on if each.startswith(SERVICE)),
        environment=_environment(given.get("environment")),
        working_dir=str(given.get("working_dir") or ""),
        inputs=_list(given.get("inputs")),
        outputs=_list(given.get("outputs")),
    )


def _list(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(map(str, given or ()))


def _environment(given: Any) -> dict[str, str | None]:
    if isinstance(given, Mapping):
        return {str(name): None if value is None else _text(value) for name, value in given.items()}
    pairs = (str(each).partition("=") for each in given or ())
    return {name: value if sign else None for name, sign, value in pairs}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
