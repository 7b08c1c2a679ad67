"""A watch session: what is done when files of the project change, from `devenv watch` or `up --watch` until its end.

    a change ─▶ look ─▶ sync into every replica, at once ─▶ (calm) ─▶ rebuild, restart, exec
                          ▲
    a container starts ───┘  brought level before its first process runs

Syncing is level-triggered: a batch names paths, and each container is made at these paths what the project is at that
moment. What was ever synced in a session is done again for a container that starts, so that one which is made anew
has what the one before it was given; with `initial_sync` that is the whole folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.reconcile import bringing, desired, live, notes, syncing
from devenv.sync import rules, transfer, tree, watcher

if TYPE_CHECKING:
    from devenv.reconcile import loop as loop_module

# (service, kind of action, exec's hook) -> done; raises ``DevenvError``.
Act = Callable[[str, rules.Action, Mapping[str, Any]], Awaitable[None]]

Place = tuple[str, str]  # a target, and the path beneath it

# Something that never calms down is acted upon all the same.
_LONGEST_CALM = 2.0


@dataclasses.dataclass(slots=True)
class _Batch:
    """What a change means for one service."""

    files: dict[str, None] = dataclasses.field(default_factory=dict)
    items: dict[Place, transfer.Item] = dataclasses.field(default_factory=dict)
    when_synced: dict[rules.Rule, set[Place]] = dataclasses.field(default_factory=dict)
    then: dict[rules.Rule, None] = dataclasses.field(default_factory=dict)


class Session:
    """Raises ``UsageError`` when none of ``services`` is configured for it."""

    def __init__(
        self,
        loop: loop_module.Loop,
        environment: desired.Environment,
        services: Sequence[str],
        found: syncing.Found,
        *,
        say: Callable[[notes.Note], None],
        act: Act,
    ) -> None:
        self.services = tuple(services)
        self.environment = environment
        self._loop = loop
        self._say = say
        self._act = act
        self._told: set[tuple[str, ...]] = set()
        self._rules, self.found = found.rules, found
        for each in found.warnings:
            self._warn(*each)
        watched = [
            name
            for name in services
            if name in found.derived or (environment.services[name].get("develop") or {}).get("watch")
        ]
        if not watched:
            raise errors.UsageError(
                "none of the selected services is configured for watch",
                hint="give one `develop: watch:` rules, or a `build:` that copies files; docs/watch.md has examples",
            )
        self._plans = {
            name: syncing.Plan([rule for rule in self._rules if rule.service == name], environment.services[name])
            for name in watched
        }
        self._hands = syncing.Hands(loop.where, loop.run)
        memory = f"{loop.where.project_data(loop.project.id)}/pulled"
        self._bringer = bringing.Bringer(
            self._plans,
            self._hands,
            first=self._first,
            memory=lambda name: f"{memory}/{name}.json",
            directory=environment.directory,
            say=say,
        )
        self._trees = [tree.Tree(root, self._skips) for root in _outermost(rule.path for rule in self._rules)]
        self._looking = threading.Lock()
        self._touched: dict[str, dict[Place, transfer.Item]] = {name: {} for name in watched}
        self._due: dict[str, _Batch] = {}
        self._due_since = 0.0
        self._acting: asyncio.Task[None] | None = None
        self._starting: set[str] = set()

    # -- life ----------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Watch from now on: returns when no change can be missed any more."""
        events = asyncio.get_running_loop()
        self._wake = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                events.call_soon_threadsafe(self._wake.set)

        self._watcher = watcher.Watcher(
            [each.root for each in self._trees],
            skip=self._skips,
            notify=wake,
            warn=lambda text, hint: self._say(notes.Note(text=text, level="warning", hint=hint)),
            now=events.time,
        )
        await self._loop.run(self._watcher.start)
        await self._loop.run(self._look_at_all)
        self._task = asyncio.ensure_future(self._run())
        for name in self._plans:
            for container in self._running(name):
                await self._level(container, self._initial(name))
        self._bringer.begin(self._carry_again)
        self._say(notes.Note(text="Watch enabled"))

    async def end(self) -> None:
        self._task.cancel()
        if self._acting is not None:
            self._acting.cancel()
        await asyncio.wait({task for task in (self._task, self._acting) if task is not None})
        await self._loop.run(self._watcher.close)
        await self._bringer.end()
        await self._hands.close()
        self._say(notes.Note(text="Watch disabled"))

    async def before_start(self, container: live.Live) -> None:
        """Bring a container level whose process waits. What fails is said, and keeps nobody from starting."""
        name = container.record.service
        if container.record.oneoff or name not in self._plans:
            return
        self._starting.add(container.id)
        items = {**{(item.target, item.path): item for item in self._initial(name)}, **self._touched[name]}
        await self._level(container, list(items.values()))

    async def release(self, container: live.Live) -> None:
        """Its root is about to be mounted again, or removed."""
        await self._bringer.release(container)
        self._starting.discard(container.id)
        await self._hands.release(container.id)

    # -- changes -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        events = asyncio.get_running_loop()
        while True:
            moments = [self._watcher.due()]
            if self._due and self._acting is None:
                moments.append(min(self._watcher.calm(), self._due_since + _LONGEST_CALM))
            next_one = min((moment for moment in moments if moment is not None), default=None)
            self._wake.clear()
            if next_one is None or next_one > events.time():
                delay = None if next_one is None else next_one - events.time()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), delay)
                continue
            try:
                if moments[0] is not None and moments[0] <= events.time():
                    await self._batch()
                else:
                    self._begin_acting()
            except errors.DevenvError as exc:
                self._say(notes.Note(text=exc.message, level="error", hint=exc.hint or ""))
            except Exception as exc:  # noqa: BLE001  a fault of ours must not end the watching in silence
                self._say(notes.Note(text=f"{type(exc).__name__}: {exc}", level="error"))
                await asyncio.sleep(1.0)
                self._watcher.look_at_everything()

    async def _batch(self) -> None:
        changes = await self._loop.run(self._watcher.take)
        changed = await self._loop.run(self._look, changes)
        # One that was written again within a tick of its filesystem's clock looks as it did before.
        again = [path for path in changes.paths if path not in changed and _is_fresh(path)]
        batches = self._sorted_out(changed, again)
        await asyncio.gather(*(self._carry_out(name, batch) for name, batch in batches.items()))

    def _look(self, changes: watcher.Changes) -> dict[str, None]:
        if changes.everything:
            return self._look_at_all()
        with self._looking:
            began = time.monotonic()
            found: dict[str, None] = {}
            # A folder comes before what is in it, whose look then is a short one.
            for path in sorted(changes.paths):
                for each in self._trees:
                    if rules.below(each.root, path) is not None:
                        found.update(dict.fromkeys(each.look(path, deep=changes.paths[path])))
            self._watcher.cost = time.monotonic() - began
            return found

    def _look_at_all(self) -> dict[str, None]:
        with self._looking:
            return dict.fromkeys(path for each in self._trees for path in each.look(each.root, deep=True))

    def _sorted_out(self, changed: Mapping[str, None], again: Sequence[str]) -> dict[str, _Batch]:
        batches: dict[str, _Batch] = {}
        for path in (*changed, *again):
            is_folder = os.path.isdir(path)
            for rule in self._rules:
                relative = rule.covers(path)
                if relative is None or (path not in changed and not rule.action.syncs):
                    continue
                batch = batches.setdefault(rule.service, _Batch())
                if not is_folder:
                    batch.files[path] = None
                if not rule.action.syncs:
                    if not is_folder:
                        batch.then[rule] = None
                    continue
                item = self._plans[rule.service].item(rule, path, relative)
                if item is None:
                    continue
                batch.items[item.target, item.path] = item
                if rule.action is not rules.Action.SYNC:
                    batch.when_synced.setdefault(rule, set()).add((item.target, item.path))
        return batches

    async def _carry_out(self, service: str, batch: _Batch) -> None:
        # A folder first: where it is gone, so is what was in it.
        items = [batch.items[key] for key in sorted(batch.items)]
        self._touched[service].update(batch.items)
        results = await asyncio.gather(*(self._apply(each, items) for each in self._running(service)))
        synced = {(item.target, item.path) for result in results if result is not None for item in result.changed}
        batch.then.update(dict.fromkeys(rule for rule, places in batch.when_synced.items() if places & synced))
        if not synced and not batch.then:
            return
        text = _summary(service, batch, bool(synced), self.environment.directory)
        self._say(notes.Note(text=text, service=service, level="batch"))
        if batch.then:
            if not self._due:
                self._due_since = asyncio.get_running_loop().time()
            self._due.setdefault(service, _Batch()).then.update(batch.then)

    # -- into containers -----------------------------------------------------------------------------------------

    def _running(self, service: str) -> list[live.Live]:
        """Those that a change goes to: one that is about to start has been brought level already."""
        every = self._loop.of_service(service)
        return [container for container in every if container.runs or container.id in self._starting]

    def _first(self, service: str) -> live.Live | None:
        """Whose files are pulled: one whose files can be had, though it may have ended."""
        for container in self._loop.of_service(service):
            known = container.id in self._starting or self._hands.has(container.id)
            return container if container.runs or known else None
        return None

    async def _carry_again(self, container: live.Live, sources: Sequence[str]) -> None:
        plan, items = self._plans[container.record.service], []
        for source in sources:
            for rule in plan.rules:
                relative = rule.covers(source)
                item = None if relative is None else plan.item(rule, source, relative)
                if item is not None:
                    items.append(item)
        await self._apply(container, items)

    def _initial(self, service: str) -> list[transfer.Item]:
        """All that the rules with `initial_sync` cover now."""
        plan, found = self._plans[service], []
        with self._looking:
            for rule in plan.rules:
                if not rule.initial_sync:
                    continue
                for each in self._trees:
                    if rules.below(each.root, rule.path) is None or rule.path not in each:
                        continue
                    for path in (rule.path, *each.paths(rule.path)):
                        relative = rule.covers(path)
                        item = None if relative is None else plan.item(rule, path, relative)
                        if item is not None:
                            found.append(item)
        return found

    async def _level(self, container: live.Live, items: Sequence[transfer.Item]) -> None:
        if not items:
            return
        result = await self._apply(container, items)
        if result is not None and result.changed:
            count = notes.count(len(result.changed))
            self._say(
                notes.Note(text=f"{container.record.name} brought level: {count}", service=container.record.service)
            )

    async def _apply(self, container: live.Live, items: Sequence[transfer.Item]) -> transfer.Result | None:
        if not items:
            return None
        service = container.record.service
        try:
            result = await self._bringer.apply(container, items)
        except errors.DevenvError as exc:
            if container.runs:  # one that has just ended is brought level when it starts again
                self._warn(service, exc.message, exc.hint or "")
            return None
        for why, places in syncing.failures(container, result).items():
            self._warn(service, f"{container.record.name}: {notes.some(places)}: {why}", "")
        return result

    # -- what comes after ----------------------------------------------------------------------------------------

    def _begin_acting(self) -> None:
        due, self._due = self._due, {}
        self._acting = asyncio.ensure_future(self._carry_on(due))

        def ended(task: asyncio.Task[None]) -> None:
            self._acting = None
            self._wake.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._say(notes.Note(text=f"{type(error).__name__}: {error}", level="error"))

        self._acting.add_done_callback(ended)

    async def _carry_on(self, due: Mapping[str, _Batch]) -> None:
        """In docker compose's order; what fails ends it for that service."""
        for service in sorted(due):
            wanted = due[service].then
            kinds = {rule.action for rule in wanted}
            try:
                if rules.Action.REBUILD in kinds:
                    await self._act(service, rules.Action.REBUILD, {})
                elif kinds & {rules.Action.RESTART, rules.Action.SYNC_RESTART}:
                    await self._act(service, rules.Action.RESTART, {})
                for rule in wanted:
                    if rule.action is rules.Action.SYNC_EXEC:
                        await self._act(service, rules.Action.SYNC_EXEC, rule.exec)
            except errors.DevenvError as exc:
                self._say(
                    notes.Note(text=f"{service}: {exc.message}", service=service, level="error", hint=exc.hint or "")
                )

    # -- telling -------------------------------------------------------------------------------------------------

    def _warn(self, service: str, text: str, hint: str) -> None:
        """Once."""
        if (service, text) not in self._told:
            self._told.add((service, text))
            self._say(notes.Note(text=text, service=service, level="warning", hint=hint))

    def _skips(self, path: str, is_folder: bool) -> bool:
        if is_folder:
            return all(rule.prunes(path) for rule in self._rules)
        return all(rule.covers(path) is None for rule in self._rules)


def _outermost(found: Iterable[str]) -> list[str]:
    roots: list[str] = []
    for path in sorted(set(found)):
        if not any(rules.below(root, path) is not None for root in roots):
            roots.append(path)
    return roots


def _is_fresh(path: str) -> bool:
    try:
        return abs(time.time() - os.lstat(path).st_mtime) < transfer.FRESH_SECONDS
    except OSError:
        return False


def _summary(service: str, batch: _Batch, synced: bool, directory: str) -> str:
    names = [rules.below(directory, path) or path for path in batch.files] or ["folders"]
    actions = ["sync"] if synced else []
    kinds = {rule.action for rule in batch.then}
    if rules.Action.REBUILD in kinds:
        actions.append("rebuild")
    elif kinds & {rules.Action.RESTART, rules.Action.SYNC_RESTART}:
        actions.append("restart")
    if rules.Action.SYNC_EXEC in kinds:
        actions.append("exec")
    steps = list(
        dict.fromkeys(f"{rule.step} ({rule.place})" for rule in batch.then if rule.step and not rule.action.syncs)
    )
    begun = f" from {steps[0]}" if steps and rules.Action.REBUILD in kinds else ""
    return f"{service}: {notes.count(len(names))} changed: {notes.some(names)} → {', '.join(actions)}{begun}"
