"""The rules of `develop.watch` for the containers that are there: which file of a change goes where, and by whose hand.

A hand (``devenv.sync.transfer``) belongs to one run of one container. It holds that container's root open, so it is
let go before the container is made again or removed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import posixpath
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from devenv import errors
from devenv.build import ignore
from devenv.reconcile import convert, derived, desired, live
from devenv.sync import rules, transfer
from devenv.util import paths

Run = Callable[..., Awaitable[Any]]
T = TypeVar("T")


class Caution(NamedTuple):
    service: str
    text: str
    hint: str = ""


class Found(NamedTuple):
    rules: tuple[rules.Rule, ...]
    derived: frozenset[str]  # the services whose rules are their Dockerfile's
    warnings: tuple[Caution, ...]

    @property
    def fingerprint(self) -> list[tuple[str, ...]]:
        return derived.fingerprint([rule for rule in self.rules if rule.service in self.derived])


def make_rules(environment: desired.Environment, services: Iterable[str], machine: derived.Machine) -> Found:
    """Raises ``UsageError`` for what can't be watched; of what need not be, it is said. Reads Dockerfiles."""
    found: list[rules.Rule] = []
    by_dockerfile: set[str] = set()
    warnings: list[Caution] = []
    for name in services:
        service = environment.services[name]
        if derived.is_wanted(service):
            try:
                made = derived.make(environment, name, machine)
            except errors.DevenvError as exc:
                warnings.append(Caution(name, f"its Dockerfile can't be followed: {exc.message}", exc.hint or ""))
                continue
            found += [rule for rule in made if not (rule.action.syncs and _bound(rule, service))]
            by_dockerfile |= {name} if made else set()
            continue
        dockerignore = _dockerignore(service)
        for number, given in enumerate((service.get("develop") or {}).get("watch") or ()):
            rule = rules.make(name, given, dockerignore=dockerignore, directory=environment.directory)
            rule = dataclasses.replace(rule, place=f"services.{name}.develop.watch[{number}]", why="its rule says so")
            _check(rule, service)
            if rule.pull is not None and os.path.lexists(rule.path) and not os.path.isdir(rule.path):
                warnings.append(Caution(name, f"`pull` of `{given['path']}` does nothing: it is for folders"))
                rule = dataclasses.replace(rule, pull=None)
            bound = rule.action.syncs and _bound(rule, service)
            if bound:
                warnings.append(Caution(name, f"`{given['path']}` is not synced: {bound}"))
            else:
                found.append(rule)
    return Found(tuple(found), frozenset(by_dockerfile), tuple(warnings))


def _check(rule: rules.Rule, service: convert.Service) -> None:
    what = f"service `{rule.service}`: `develop.watch` of `{rule.path}`"
    if rule.action is rules.Action.REBUILD and not service.get("build"):
        raise errors.UsageError(f"{what} asks to rebuild, and there is no `build:`")
    if rule.action is rules.Action.SYNC_EXEC and not rule.exec.get("command"):
        raise errors.UsageError(f"{what} asks to run a command, and `exec:` has none")
    if rule.action.syncs and not rule.target:
        raise errors.UsageError(f"{what} syncs, and has no `target`")


def _dockerignore(service: convert.Service) -> rules.Scope | None:
    """Of the build context; beside a Dockerfile that is called otherwise, its own."""
    build = service.get("build") or {}
    context = str(build.get("context") or "")
    if not os.path.isdir(context):
        return None
    context = os.path.realpath(context)
    named = os.path.join(context, str(build.get("dockerfile") or "Dockerfile"))
    matcher = ignore.load(context, named)
    return None if matcher is None else rules.Scope(context, ignore.Left(matcher))


def _bound(rule: rules.Rule, service: convert.Service) -> str:
    """Why a rule has nothing to do: what it would carry over is there already."""
    for volume in service.get("volumes") or ():
        if volume.get("type") != "bind":
            continue
        source, target = os.path.realpath(str(volume["source"])), posixpath.normpath(str(volume["target"]))
        if rules.below(source, rule.path) is not None:
            return f"a bind mount shows it at `{target}` already"
        if rules.below(target, rule.target.rstrip("/") or "/") is not None:
            return f"its target lies in the bind mount of `{source}`"
    return ""


def shown_at(service: convert.Service, path: str) -> str | None:
    """Where a bind mount shows a file of this machine."""
    for volume in service.get("volumes") or ():
        inner = rules.below(os.path.realpath(str(volume["source"])), path) if volume.get("type") == "bind" else None
        if inner is not None:
            return posixpath.normpath(posixpath.join(str(volume["target"]), inner))
    return None


class Plan:
    """Where the files of one service's rules go."""

    def __init__(self, found: Sequence[rules.Rule], service: convert.Service) -> None:
        self.rules = [rule for rule in found if rule.action.syncs]
        binds = [volume for volume in service.get("volumes") or () if volume.get("type") == "bind"]
        # What is written beneath these is written to this machine's own files.
        self._foreign = [posixpath.normpath(str(volume["target"])) for volume in binds]
        self.targets = sorted({self._place(rule, "")[0] for rule in self.rules})

    def item(self, rule: rules.Rule, source: str, relative: str) -> transfer.Item | None:
        """None for what is not to be written: the target itself, and what a bind mount lies over."""
        if rule.flat and os.path.isdir(source):
            return None
        target, path, inside = self._place(rule, posixpath.basename(relative) if rule.flat else relative)
        if not path:
            return None
        place = posixpath.join(target, path)
        if any(rules.below(folder, place) is not None for folder in self._foreign):
            return None
        return transfer.Item(source, target, path, inside, rule.mode)

    def _place(self, rule: rules.Rule, relative: str) -> tuple[str, str, str]:
        # A rule's own path that is no folder now was a file, or a folder that is gone: that one's files are named too.
        if relative or os.path.isdir(rule.path):
            return rule.target.rstrip("/") or "/", relative, ""
        name = posixpath.basename(rule.path)
        if rule.target.endswith("/"):
            return rule.target.rstrip("/") or "/", name, ""
        folder, _, last = rule.target.rpartition("/")
        return folder or "/", last, name


class Hands:
    """One for each container that runs and has something synced into it."""

    def __init__(self, where: paths.Paths, run: Run) -> None:
        self._where = where
        self._run = run
        self._hands: dict[str, transfer.Hand] = {}
        self._busy: dict[str, asyncio.Lock] = {}

    async def use(self, container: live.Live, plan: Plan, work: Callable[[transfer.Hand], T]) -> T:
        """What ``work`` comes to, in a worker thread. Raises ``SyncError``."""
        async with self._busy.setdefault(container.id, asyncio.Lock()):
            hand = self._hands.get(container.id)
            if hand is None:
                hand = self._hands[container.id] = await self._run(self._begin, container, plan)
            try:
                result: T = await self._run(work, hand)
            except errors.SyncError:
                await self._run(self._hands.pop(container.id).close)
                raise
            return result

    def has(self, container_id: str) -> bool:
        return container_id in self._hands

    def _begin(self, container: live.Live, plan: Plan) -> transfer.Hand:
        made = container.record
        return transfer.Hand(self._where.container(made.id), name=made.name, owner=made.user, targets=plan.targets)

    async def release(self, container_id: str) -> None:
        """Returns when nothing of ours holds the container's files."""
        lock = self._busy.get(container_id)
        if lock is None:
            return
        async with lock:
            hand = self._hands.pop(container_id, None)
            if hand is not None:
                await self._run(hand.close)
        self._busy.pop(container_id, None)

    async def close(self) -> None:
        for container_id in list(self._hands):
            await self.release(container_id)


def failures(container: live.Live, result: transfer.Result) -> Mapping[str, list[str]]:
    """Why something could not be written -> which paths."""
    found: dict[str, list[str]] = {}
    for failure in result.failed:
        why = failure.reason
        if failure.number == 30:  # EROFS
            why = "it is read-only there; a `tmpfs` or a volume at the target can be written to"
        found.setdefault(why, []).append(posixpath.join(failure.item.target, failure.item.path))
    return found
