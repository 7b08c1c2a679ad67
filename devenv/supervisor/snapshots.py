"""`snapshot` and `undo` as the supervisor does them: services stand still for the moment, then go on as they were.

How still depends on the filesystem. Where files can share blocks (btrfs, xfs) containers are paused, the volumes are
cloned, and nothing else happens to them. Elsewhere root makes a volume's folder a layer below an overlay, by a rename:
for that its services are stopped, since a process would go on writing to files that it has open. An ordinary user,
in whose overlays folders of a layer can't be renamed, has the data copied while they are paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

from devenv import errors, events
from devenv.reconcile import jobs, lifecycle, live, loop
from devenv.reconcile import snapshots as mechanism
from devenv.runtime import copyup
from devenv.volume import snapshot as snapshot_module

Send = Callable[[dict[str, Any]], None]
Emit = Callable[[events.Event], None]
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
        anonymous = self._anonymous()
        names = sorted({*await self._loop.run(self._store.kept_volumes), *anonymous})
        boxes = {} if params.get("volumes_only") else self._boxes()
        if not names and not boxes:
            raise errors.VolumeError(
                "the project has neither volumes nor containers to take a snapshot of", hint="after a first `devenv up`"
            )
        wanted = snapshot_module.Snapshot(name, time.time(), anonymous=anonymous)
        async with self._still(names, send, stop=not await self._loop.run(self._copies), boxes=boxes):
            began = time.monotonic()
            await self._keep(wanted, names, boxes)
            took = time.monotonic() - began
        self._say(send, f"Snapshot {name}", "Saved", f"{_counted(names, boxes)} in {took * 1000:.0f} ms")
        return {"name": name, "volumes": names, "containers": sorted(boxes), "seconds": took}

    async def _keep(
        self, wanted: snapshot_module.Snapshot, names: Sequence[str], boxes: Mapping[str, snapshot_module.Box]
    ) -> None:
        if await self._loop.run(self._copies):
            await self._loop.run(self._store.copy, wanted, names, copyup.fill, boxes, copyup.duplicate)
        else:
            await self._loop.run(self._store.freeze, wanted, names, copyup.fill, boxes, copyup.duplicate)

    async def restore(self, params: Params, send: Send) -> Any:
        """``name`` is missing for `undo`: the last one that was taken by itself."""
        found = self._of_now(await self._loop.run(self._find, str(params.get("name") or "")), send)
        names = sorted(found.volumes)
        boxes = {} if params.get("volumes_only") else self._refillable(found, send)
        there = [name for name in names if await self._loop.run(self._loop.containers.volumes.get, name)]
        stacked = not await self._loop.run(self._copies)
        now = time.time()
        why = f"`{'snapshot restore ' + found.name if params.get('name') else 'undo'}`"
        before = snapshot_module.Snapshot(snapshot_module.automatic_name(now), now, why, anonymous=self._anonymous())
        async with self._still(names, send, stop=True, boxes=boxes, stop_boxes=True):
            if there:
                await self._keep(before, there, {})
            began = time.monotonic()
            await self._loop.run(functools.partial(self._store.restore, found, names, copyup.fill, stacked=stacked))
            if boxes:
                await self._loop.run(self._store.refill, found, boxes, before, copyup.duplicate)
            took = time.monotonic() - began
            await self._loop.run(jobs.forget, self._loop.where, self._loop.project.id)
        await self._loop.run(self._store.forget_old)
        what = f"{_counted(names, boxes)} in {took * 1000:.0f} ms"
        self._say(send, f"Snapshot {found.name}", "Restored", f"{what}; `undo` takes it back")
        return {"name": found.name, "volumes": names, "containers": sorted(boxes), "seconds": took}

    # -- containers ----------------------------------------------------------------------------------------------

    def _own(self) -> dict[str, live.Live]:
        """By service and number, as snapshots name them."""
        return {
            f"{each.record.service}-{each.record.number}": each
            for each in self._loop.live.values()
            if not each.record.oneoff
        }

    def _anonymous(self) -> dict[str, tuple[str, str]]:
        return {
            mount["name"]: (key, mount["target"])
            for key, each in self._own().items()
            for mount in each.record.mounts
            if mount["type"] == "volume" and mount["name"] in each.record.anonymous_volumes
        }

    def _boxes(self) -> dict[str, snapshot_module.Box]:
        return {key: self._box(each) for key, each in self._own().items()}

    def _box(self, container: live.Live) -> snapshot_module.Box:
        uppers = mechanism.uppers(self._loop.where, container.record)
        return snapshot_module.Box(container.record.image_id, tuple(upper for _, upper in uppers))

    def _of_now(self, found: snapshot_module.Snapshot, send: Send) -> snapshot_module.Snapshot:
        """Volumes without a name by those that containers have in their places today."""
        today = {whose: name for name, whose in self._anonymous().items()}
        volumes = dict(found.volumes)
        for name, whose in found.anonymous.items():
            kept = volumes.pop(name, None)
            if kept is not None and whose in today:
                volumes[today[whose]] = kept
            elif kept is not None:
                self._say(
                    send, f"Volume {name[:12]}", "Kept", f"no container `{whose[0]}` has a volume at `{whose[1]}`"
                )
        return found._replace(volumes=volumes)

    def _refillable(self, found: snapshot_module.Snapshot, send: Send) -> dict[str, snapshot_module.Box]:
        """Containers of today that can have the layers of then: those of the same image."""
        today, chosen = self._own(), {}
        for key, box in found.containers.items():
            container = today.get(key)
            reason = ""
            if box.pending:
                continue
            if container is None:
                reason = "there is no such container now"
            elif container.record.image_id != box.image:
                reason = "its image is another one now"
            else:
                chosen[key] = self._box(container)
            if reason:
                self._say(send, f"Container {key}", "Kept", f"its own files stay: {reason}")
        return chosen

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
    async def _still(
        self,
        names: Sequence[str],
        send: Send,
        *,
        stop: bool,
        boxes: Mapping[str, snapshot_module.Box],
        stop_boxes: bool = False,
    ) -> AsyncIterator[None]:
        """Nobody writes to the volumes ``names`` and in the containers ``boxes``: they are paused, or stopped.

        ``stop``: what uses the volumes has to be; ``stop_boxes``: the others, too, since one that runs would keep
        the folder that its root is made of, wherever that is moved.
        """
        await self._loop.run(mechanism.refuse_guests, self._loop.where, self._loop.project.id, names)
        using = set(names)
        running = [each for each in self._loop.live.values() if each.status == "running"]
        holders = [each for each in running if using & _volumes(each)]
        own = self._own()
        beside = [own[key] for key in boxes if own[key] in running and own[key] not in holders]
        oneoff = next((each for each in holders if each.record.oneoff), None)
        if stop and oneoff is not None:
            raise errors.VolumeError(
                f"`{oneoff.record.name}`, a one-off container, uses the volumes", hint="end it first"
            )
        still = [*holders, *beside]
        stopping = [*(holders if stop else ()), *(beside if stop_boxes else ())]
        pausing = [each for each in still if each not in stopping]
        await self._loop.run(mechanism.hold, self._loop.where, self._loop.project.id, [each.id for each in still])
        try:
            stopping += await self._pause(pausing)
            if stopping:
                await self._stopped(stopping, send)
            yield
        finally:
            await asyncio.shield(self._go_on(pausing, stopping, _emitter(send)))

    async def _pause(self, containers: Sequence[live.Live]) -> list[live.Live]:
        """Those are returned that can't be: without a cgroup none can, and they are stopped in place of that."""
        left = []
        for each in containers:
            try:
                await self._loop.run(self._loop.containers.monitor.pause, each.id)
            except errors.DevenvError:
                left.append(each)
        return left

    def held(self) -> tuple[str, ...]:
        """Containers that stand still since a supervisor was killed meanwhile."""
        return mechanism.held(self._loop.where, self._loop.project.id)

    async def recover(self) -> None:
        """Let them go on. What was being taken or brought back is whole or is what it was before."""
        there = [each for id in self.held() if (each := self._loop.live.get(id)) and not each.stopped_by_user]
        ended = [each for each in there if not each.runs]
        await self._go_on([each for each in there if each.runs], ended, loop.note_event)

    async def _stopped(self, holders: Sequence[live.Live], send: Send) -> None:
        observed = await self._loop.observe(self._loop.environment)
        todo = lifecycle.plan_hold(observed, {each.id for each in holders})
        (await self._loop.execute(todo, environment=None, images={}, emit=_emitter(send))).raise_first()

    async def _go_on(self, paused: Sequence[live.Live], stopped: Sequence[live.Live], emit: Emit) -> None:
        try:
            for each in paused:
                with contextlib.suppress(errors.DevenvError):
                    await self._loop.run(self._loop.containers.monitor.resume, each.id)
            if stopped:
                observed = await self._loop.observe(self._loop.environment)
                todo = lifecycle.plan_go_on(observed, {each.id for each in stopped})
                outcome = await self._loop.execute(todo, environment=self._loop.environment, images={}, emit=emit)
                outcome.raise_first()
        finally:
            await self._loop.run(mechanism.let_go, self._loop.where, self._loop.project.id)

    def _say(self, send: Send, resource: str, text: str, details: str = "") -> None:
        send({"event": self._loop.event(resource, events.Status.DONE, text, details=details).to_json()})


def _volumes(container: live.Live) -> set[str]:
    return {*container.record.volumes, *container.record.anonymous_volumes}


def _counted(volumes: Sequence[str], containers: Collection[str]) -> str:
    said = [
        f"{len(each)} {word}{'' if len(each) == 1 else 's'}"
        for each, word in ((volumes, "volume"), (containers, "container"))
        if each
    ]
    return " and ".join(said)


def _emitter(send: Send) -> Emit:
    return lambda event: send({"event": event.to_json()})
