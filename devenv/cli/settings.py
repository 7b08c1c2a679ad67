"""What is said before a command's name: data, and what the environment says in its place. Imports no parser."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import NamedTuple, TypeVar

from devenv import errors

Choice = TypeVar("Choice", bound=StrEnum)


class Progress(StrEnum):
    AUTO = "auto"
    TTY = "tty"
    PLAIN = "plain"
    JSON = "json"
    QUIET = "quiet"


class Ansi(StrEnum):
    AUTO = "auto"
    NEVER = "never"
    ALWAYS = "always"


class Globals(NamedTuple):
    files: tuple[str, ...] = ()
    project_name: str = ""
    project_directory: str = ""
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    parallel: int = -1
    progress: Progress = Progress.AUTO
    ansi: Ansi = Ansi.AUTO
    dry_run: bool = False
    all_resources: bool = False
    compatibility: bool = False
    debug: bool = False


def progress(given: Progress | None = None) -> Progress:
    return _choice(given, Progress.AUTO, "COMPOSE_PROGRESS")


def ansi(given: Ansi | None = None) -> Ansi:
    return _choice(given, Ansi.AUTO, "COMPOSE_ANSI")


def _choice(given: Choice | None, default: Choice, variable: str) -> Choice:
    """The option, else the environment variable docker compose has for it, else the default."""
    if given is not None:
        return given
    text = os.environ.get(f"DEVENV_{variable.removeprefix('COMPOSE_')}") or os.environ.get(variable)
    if not text:
        return default
    kind = type(default)
    try:
        return kind(text)
    except ValueError:
        names = ", ".join(kind)
        raise errors.UsageError(f"{variable} is `{text}`, which is none of {names}") from None
