"""What `develop.watch` asks for, as data: which change on this machine means what for a service.

Pure. A rule's ``path`` is absolute and real; where it is a file, ``target`` is the file in the container.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from devenv.sync import ignore

Mode = Callable[[int], int]  # from a file's st_mode to the permissions it gets


class Action(StrEnum):
    SYNC = "sync"
    REBUILD = "rebuild"
    RESTART = "restart"
    SYNC_RESTART = "sync+restart"
    SYNC_EXEC = "sync+exec"

    @property
    def syncs(self) -> bool:
        return self in {Action.SYNC, Action.SYNC_RESTART, Action.SYNC_EXEC}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    service: str
    action: Action
    path: str
    target: str = ""
    ignored: Sequence[Scope] = ()  # docker compose's own, the `.dockerignore`, the rule's
    include: ignore.Patterns | None = None
    initial_sync: bool = False
    pull: ignore.Patterns | None = None  # what comes back out of the container
    exec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    flat: bool = False  # files only, and each goes into the target by its own name
    mode: Mode | None = None
    step: str = ""  # what a rebuild begins with
    place: str = ""  # where it is written, for people
    why: str = ""

    def covers(self, path: str) -> str | None:
        """``path`` relative to the rule's own, "" for that itself; None for what the rule is not about."""
        relative = below(self.path, path)
        if relative is None:
            return None
        if any(scope.match(path) for scope in self.ignored):
            return None
        if relative and self.include is not None and not self.include.match(relative):
            return None
        return relative

    def pulls(self, relative: str) -> bool:
        """Whether what the container makes there, beneath the target, comes back."""
        if self.pull is None or not self.pull.match(relative):
            return False
        return self.covers(os.path.join(self.path, relative)) is not None

    def prunes(self, folder: str) -> bool:
        """Whether no path in ``folder`` can be covered."""
        if below(self.path, folder) is None:
            return below(folder, self.path) is None
        return any(scope.prune(folder) for scope in self.ignored)


class Patterns(Protocol):
    """What ``ignore.Patterns`` is, and a build's `.dockerignore`."""

    def match(self, path: str) -> bool: ...

    def prune(self, folder: str) -> bool: ...


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """Patterns, and the folder that they are for."""

    base: str
    patterns: Patterns

    def match(self, path: str) -> bool:
        relative = below(self.base, path)
        return bool(relative) and self.patterns.match(str(relative))

    def prune(self, folder: str) -> bool:
        relative = below(self.base, folder)
        return bool(relative) and self.patterns.prune(str(relative))


def below(base: str, path: str) -> str | None:
    """``path`` relative to ``base``, "" for ``base`` itself, None if it isn't in there."""
    if path == base:
        return ""
    prefix = base if base.endswith("/") else f"{base}/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def make(service: str, given: Mapping[str, Any], *, dockerignore: Scope | None = None, directory: str = "/") -> Rule:
    """From an entry of a canonical `develop.watch`."""
    path = os.path.realpath(os.path.join(directory, str(given["path"])))
    scopes = [Scope(path, ignore.Patterns(ignore.ALWAYS))]
    if dockerignore is not None:
        scopes.append(dockerignore)
    if given.get("ignore"):
        scopes.append(Scope(path, ignore.Patterns(given["ignore"])))
    action = Action(str(given["action"]))
    pull = given.get("pull") or (given.get("x-devenv") or {}).get("pull")
    pull = [pull] if isinstance(pull, str) else pull
    target = str(given.get("target") or "")
    slash = "/" if target.endswith("/") and target != "/" else ""
    return Rule(
        service=service,
        action=action,
        path=path,
        target=posixpath.normpath(f"/{target.lstrip('/')}") + slash if target else "",
        ignored=tuple(scopes),
        include=ignore.Patterns(given["include"]) if given.get("include") else None,
        pull=ignore.Patterns(pull) if pull and action.syncs else None,
        initial_sync=bool(given.get("initial_sync")) and action.syncs,
        exec=dict(given.get("exec") or {}),
    )
