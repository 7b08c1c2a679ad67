"""`snapshot` and `undo` as the supervisor does them: services stand still for the moment, then go on as they were.

How still depends on the filesystem. Where files can share blocks (btrfs, xfs) containers are paused, the volumes are
cloned, and nothing else happens to them. Elsewhere root makes a volume's folder a layer below an overlay, by a rename:
for that its services are stopped, since a process would go on writing to files that it has open. An ordinary user,
who can't mount for all containers, has the data copied while they are paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from devenv import errors, events
from devenv.reconcile import lifecycle, live, loop
from devenv.reconcile import snapshots as mechanism
from devenv.runtime import copyup
from devenv.volume import snapshot as snapshot_module

Send = Callable[[dict[str, Any]], None]
Params = Mapping[str, Any]


class Snapshots:
    def __init__(self, engine: loop.Loop) -> None:
        self._loop = engine

    @property
    def _store(self) -> snapshot_module.SnapshotStore:
        return self._loop.containers.snapshots

    async def save(self, params: Params, send: Send) -> Any:
        name = str(params["name"])
        await self._loop.run(self._store.check_new, name)
        names = await self._loop.run(self._store.kept_volumes)
        if not names:
            raise errors.VolumeError(
                "the project has no volumes to take a snapshot of", hint="named ones, after a first `devenv up`"
            )
        return await self._keep(snapshot_module.Snapshot(name, time.time()), names, send)

    async def _keep(self, wanted: snapshot_module.Snapshot, names: Sequence[str], send: Send) -> Any:
        copies = await self._loop.run(self._copies)
        async with self._still(names, send, stop=not copies):
            began = time.monotonic()
            if copies:
                await self._loop.run(self._store.copy, wanted, names, copyup.fill)
            else:
                await self._loop.run(self._store.freeze, wanted, names)
            took = time.monotonic() - began
        self._say(send, f"Snapshot {wanted.name}", "Saved", f"{len(names)} volumes in {took * 1000:.0f} ms")
        return {"name": wanted.name, "volumes": list(names), "seconds": took}

    async def restore(self, params: Params, send: Send) -> Any:
        """``name`` is missing for `undo`: the last one that was taken by itself."""
        found = await self._loop.run(self._find, str(params.get("name") or ""))
        names = sorted(found.volumes)
        there = [each for each in await self._loop.run(self._store.kept_volumes) if each in names]
        copies = await self._loop.run(self._copies)
        stacks = await self._loop.run(self._store.stacks)
        async with self._still(names, send, stop=True):
            if there:
                now = time.time()
                why = f"`{'snapshot restore ' + found.name if params.get('name') else 'undo'}`"
                before = snapshot_module.Snapshot(snapshot_module.automatic_name(now), now, why)
                if copies:
                    await self._loop.run(self._store.copy, before, there, copyup.fill)
                else:
                    await self._loop.run(self._store.freeze, before, there)
            began = time.monotonic()
            await self._loop.run(self._store.restore, found, names, None if stacks else copyup.fill)
            took = time.monotonic() - began
        what = ", ".join(f"`{name}`" for name in names)
        self._say(send, f"Snapshot {found.name}", "Restored", f"{what} in {took * 1000:.0f} ms; `undo` takes it back")
        return {"name": found.name, "volumes": names, "seconds": took}

    def _find(self, name: str) -> snapshot_module.Snapshot:
        if name:
            return self._store.find(name)
        found = self._store.last_automatic()
        if found is None:
            raise errors.VolumeError(
                "there is nothing to undo", hint="`down -v`, `volume rm` and `snapshot restore` can be undone"
            )
        return found

    async def remove(self, params: Params, send: Send) -> Any:
        for name in params["names"]:
            await self._loop.run(self._store.remove, name)
            self._say(send, f"Snapshot {name}", "Removed")
        return {}

    def _copies(self) -> bool:
        return self._store.shares_blocks() or not self._store.stacks()

    # -- standing still ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _still(self, names: Sequence[str], send: Send, *, stop: bool) -> AsyncIterator[None]:
        """Nobody writes to the volumes ``names``: their containers are paused, or stopped."""
        await self._loop.run(mechanism.refuse_guests, self._loop.where, self._loop.project.id, names)
        using = set(names)
        holders = [each for each in self._loop.live.values() if each.status == "running" and using & _volumes(each)]
        oneoff = next((each for each in holders if each.record.oneoff), None)
        if stop and oneoff is not None:
            raise errors.VolumeError(
                f"`{oneoff.record.name}`, a one-off container, uses the volumes", hint="end it first"
            )
        paused = [] if stop else await self._paused(holders)
        left = [each for each in holders if each not in paused]
        try:
            if left:
                await self._stopped(left, send)
            yield
        finally:
            await asyncio.shield(self._go_on(paused, left, send))

    async def _paused(self, holders: Sequence[live.Live]) -> list[live.Live]:
        """Those that could be: without a cgroup none can, and they are stopped in place of that."""
        paused = []
        for each in holders:
            with contextlib.suppress(errors.DevenvError):
                await self._loop.run(self._loop.containers.monitor.pause, each.id)
                paused.append(each)
        return paused

    async def _stopped(self, holders: Sequence[live.Live], send: Send) -> None:
        observed = await self._loop.observe(self._loop.environment)
        todo = lifecycle.plan_hold(observed, {each.id for each in holders})
        (await self._loop.execute(todo, environment=None, images={}, emit=_emitter(send))).raise_first()

    async def _go_on(self, paused: Sequence[live.Live], stopped: Sequence[live.Live], send: Send) -> None:
        for each in paused:
            with contextlib.suppress(errors.DevenvError):
                await self._loop.run(self._loop.containers.monitor.resume, each.id)
        if stopped:
            observed = await self._loop.observe(self._loop.environment)
            todo = lifecycle.plan_go_on(observed, {each.id for each in stopped})
            outcome = await self._loop.execute(todo, environment=self._loop.environment, images={}, emit=_emitter(send))
            outcome.raise_first()

    def _say(self, send: Send, resource: str, text: str, details: str = "") -> None:
        send({"event": self._loop.event(resource, events.Status.DONE, text, details=details).to_json()})


def _volumes(container: live.Live) -> set[str]:
    return set(container.record.volumes)


def _emitter(send: Send) -> Callable[[events.Event], None]:
    return lambda event: send({"event": event.to_json()})
