"""The rules of `develop.watch` for the containers that are there: which file of a change goes where, and by whose hand.

A hand (``devenv.sync.transfer``) belongs to one run of one container. It holds that container's root open, so it is
let go before the container is made again or removed.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from devenv import errors
from devenv.build import ignore
from devenv.reconcile import convert, desired, live
from devenv.sync import rules, transfer
from devenv.util import paths

Run = Callable[..., Awaitable[Any]]
Warn = Callable[[str, str, str], None]  # service, message, hint


def make_rules(environment: desired.Environment, services: Iterable[str], warn: Warn) -> list[rules.Rule]:
    """Raises ``UsageError`` for what can't be watched; of what need not be, it is said."""
    found = []
    for name in services:
        service = environment.services[name]
        dockerignore = _dockerignore(service)
        for given in (service.get("develop") or {}).get("watch") or ():
            rule = rules.make(name, given, dockerignore=dockerignore, directory=environment.directory)
            _check(rule, service)
            bound = rule.action.syncs and _bound(rule, service)
            if bound:
                warn(name, f"`{given['path']}` is not synced: {bound}", "")
            else:
                found.append(rule)
    return found


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
    return None if matcher is None else rules.Scope(context, _Dockerignore(matcher))


class _Dockerignore:
    def __init__(self, matcher: ignore.Matcher) -> None:
        self._matcher = matcher

    def match(self, path: str) -> bool:
        return self._matcher.matches(path)

    def prune(self, folder: str) -> bool:
        return self._matcher.matches(folder) and not self._matcher.may_except(folder)


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
        target, path, inside = self._place(rule, relative)
        if not path:
            return None
        place = posixpath.join(target, path)
        if any(rules.below(folder, place) is not None for folder in self._foreign):
            return None
        return transfer.Item(source, target, path, inside)

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

    async def apply(self, container: live.Live, plan: Plan, items: Sequence[transfer.Item]) -> transfer.Result:
        """Raises ``SyncError``."""
        async with self._busy.setdefault(container.id, asyncio.Lock()):
            hand = self._hands.get(container.id)
            if hand is None:
                hand = self._hands[container.id] = await self._run(self._begin, container, plan)
            try:
                result: transfer.Result = await self._run(hand.apply, items)
            except errors.SyncError:
                await self._run(self._hands.pop(container.id).close)
                raise
            return result

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
