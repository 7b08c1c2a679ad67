"""What each operation of a plan does, and what is said of it. One handler a type; the plan has decided everything."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from devenv import errors, events
from devenv.image import store as image_store
from devenv.reconcile import (
    convert_network,
    desired,
    hooks,
    jobs,
    live,
    making,
    mounts,
    plan,
    prestart,
    reasons,
    waiting,
)
from devenv.runtime import signals
from devenv.volume import snapshot

if TYPE_CHECKING:
    from devenv.reconcile import loop as loop_module

Emit = Callable[[events.Event], None]


class Performer:
    """Carries out the operations of one plan."""

    def __init__(
        self,
        loop: loop_module.Loop,
        environment: desired.Environment | None,
        images: Mapping[str, image_store.Image],
        emit: Emit,
        *,
        renew_anonymous: bool = False,
    ) -> None:
        self._loop = loop
        self._environment = environment
        self._images = images  # by service
        self._emit = emit
        self._renew = renew_anonymous
        self._made: dict[tuple[str, int], str] = {}  # what this plan created
        self._inherited: dict[str, dict[str, str]] = {}  # replaced container -> target -> anonymous volume
        now = time.time()
        # All that this plan removes is one snapshot.
        self._before = snapshot.Snapshot(snapshot.automatic_name(now), now, "`down -v`")
        self._handlers: dict[plan.Type, Callable[[plan.Operation], Awaitable[None]]] = {
            plan.Type.NETWORK_CREATE: self._create_network,
            plan.Type.NETWORK_RECREATE: self._recreate_network,
            plan.Type.NETWORK_REMOVE: self._remove_network,
            plan.Type.VOLUME_CREATE: self._create_volume,
            plan.Type.VOLUME_REMOVE: self._remove_volume,
            plan.Type.CONTAINER_CREATE: self._create,
            plan.Type.CONTAINER_UPDATE: self._update,
            plan.Type.CONTAINER_PREPARE: self._prepare,
            plan.Type.CONTAINER_START: self._start,
            plan.Type.CONTAINER_WAIT: self._wait,
            plan.Type.CONTAINER_STOP: self._stop,
            plan.Type.CONTAINER_KILL: self._kill,
            plan.Type.CONTAINER_REMOVE: self._remove,
        }

    async def perform(self, operation: plan.Operation) -> None:
        try:
            await self._handlers[operation.type](operation)
        except errors.DevenvError as exc:
            self._say(self._title(operation), events.Status.ERROR, "Error", exc.message, operation.service)
            raise
        except OSError as exc:
            # A disk that is full, a limit that is reached: nothing a mechanism could have known better.
            place = f": `{exc.filename}`" if exc.filename else ""
            error = errors.HostError(f"{operation.resource}: {exc.strerror or exc}{place}")
            self._say(self._title(operation), events.Status.ERROR, "Error", error.message, operation.service)
            raise error from exc

    def _say(self, resource: str, status: events.Status, text: str, details: str = "", service: str = "") -> None:
        self._emit(self._loop.event(resource, status, text, details=details, service=service))

    def _title(self, operation: plan.Operation) -> str:
        """As the resource is called in every other message about it."""
        kind = operation.resource.partition(":")[0]
        if kind in {"network", "volume"}:
            return f"{kind.capitalize()} {operation.name}"
        if operation.name or self._environment is None or operation.service not in self._environment.services:
            return f"Container {operation.name or operation.service}"
        number = operation.number or 1
        return f"Container {making.container_name(self._environment, self._loop.project, operation.service, number)}"

    # -- networks and volumes ----------------------------------------------------------------------------------

    async def _create_network(self, operation: plan.Operation) -> None:
        title = f"Network {operation.name}"
        self._say(title, events.Status.WORKING, "Creating")
        definition = self._definition("networks", operation.name)
        await self._loop.run(self._loop.containers.networks.ensure, convert_network.network(definition))
        self._say(title, events.Status.DONE, "Created")
        for note in self._loop.containers.networks.notes():
            self._say(title, events.Status.WARNING, "Created", note)

    async def _recreate_network(self, operation: plan.Operation) -> None:
        await self._loop.run(self._loop.containers.networks.remove, operation.name)
        await self._create_network(operation)

    async def _remove_network(self, operation: plan.Operation) -> None:
        title = f"Network {operation.name}"
        self._say(title, events.Status.WORKING, "Removing")
        await self._loop.run(self._loop.containers.networks.remove, operation.name)
        self._say(title, events.Status.DONE, "Removed")

    async def _create_volume(self, operation: plan.Operation) -> None:
        title = f"Volume {operation.name}"
        self._say(title, events.Status.WORKING, "Creating")
        definition = self._definition("volumes", operation.name)
        await self._loop.run(self._builder().ensure, definition)
        self._say(title, events.Status.DONE, "Created")

    async def _remove_volume(self, operation: plan.Operation) -> None:
        title = f"Volume {operation.name}"
        self._say(title, events.Status.WORKING, "Removing")
        kept = await self._loop.run(self._loop.containers.snapshots.keep_removed, operation.name, self._before)
        self._say(title, events.Status.DONE, "Removed", "`devenv undo` brings it back" if kept else "")

    def _definition(self, kind: str, name: str) -> desired.Definition:
        assert self._environment is not None
        for definition in self._environment.definitions(kind).values():
            if definition["name"] == name:
                return definition
        raise errors.DevenvError(f"`{name}` is not in the project")

    def _builder(self) -> mounts.Builder:
        assert self._environment is not None
        return mounts.Builder(self._environment, self._loop.containers)

    # -- containers --------------------------------------------------------------------------------------------

    async def _create(self, operation: plan.Operation) -> None:
        assert self._environment is not None
        name = making.container_name(self._environment, self._loop.project, operation.service, operation.number)
        title = f"Container {name}"
        # Why something is made anew is news; that something missing is made is not.
        again = bool(operation.replaces)
        why = operation.cause if again else ""
        self._say(title, events.Status.WORKING, "Recreating" if again else "Creating", why, operation.service)
        wish = making.Wish(
            service=operation.service,
            number=operation.number,
            name=name,
            inherited={} if self._renew else self._inherited_by(operation.replaces),
        )
        container = await self._loop.create_container(
            self._environment, wish, self._images[operation.service], self._builder()
        )
        self._made[operation.service, operation.number] = container.id
        self._say(title, events.Status.DONE, "Recreated" if again else "Created", why, operation.service)

    def _inherited_by(self, replaced: str) -> dict[str, str]:
        """The anonymous volumes of the container that is replaced, by their targets: their data goes on."""
        container = self._loop.live.get(replaced)
        if container is None:
            return self._inherited.get(replaced, {})
        return live.anonymous_volumes(container)

    def _container(self, operation: plan.Operation) -> live.Live | None:
        container_id = operation.container_id or self._made.get((operation.service, operation.number), "")
        return self._loop.live.get(container_id)

    async def _update(self, operation: plan.Operation) -> None:
        container = self._container(operation)
        if container is None:
            return
        assert self._environment is not None
        title = f"Container {container.record.name}"
        self._say(title, events.Status.WORKING, "Updating", operation.cause, operation.service)
        await self._loop.update_container(self._environment, container, self._images[operation.service])
        self._say(title, events.Status.DONE, "Updated", operation.cause, operation.service)

    async def _prepare(self, operation: plan.Operation) -> None:
        container = self._container(operation)
        if container is None or self._environment is None:
            raise errors.ContainerError(f"the container of {operation.resource} is gone")
        title = f"Container {container.record.name}"
        await prestart.run(
            self._loop,
            self._environment,
            self._images.get(operation.service),
            container,
            every=operation.every,
            tell=lambda which: self._say(title, events.Status.WORKING, "Preparing", which, operation.service),
        )
        self._say(title, events.Status.DONE, "Prepared", service=operation.service)

    async def _start(self, operation: plan.Operation) -> None:
        container = self._container(operation)
        if container is None:
            raise errors.ContainerError(f"the container of {operation.resource} is gone")
        title = f"Container {container.record.name}"
        if container.runs:
            return
        self._say(title, events.Status.WORKING, "Starting", service=operation.service)
        if self._environment is not None and operation.service in jobs.find(self._environment):
            family = [each.record for each in self._loop.live.values()]
            await self._loop.run(jobs.begin, self._loop.where, self._environment, container.record, family)
        await self._loop.start_container(container)
        problem = await hooks.run(self._loop, container, "post_start")
        if problem is not None:
            raise problem
        self._say(title, events.Status.DONE, "Started", service=operation.service)

    async def _stop(self, operation: plan.Operation) -> None:
        container = self._container(operation)
        if container is None:
            return
        title = f"Container {container.record.name}"
        why = _news(operation.cause)
        self._say(title, events.Status.WORKING, "Stopping", why, operation.service)
        if container.status == "running":
            problem = await hooks.run(self._loop, container, "pre_stop")
            if problem is not None:
                self._say(title, events.Status.WARNING, "Stopping", problem.message, operation.service)
        await self._loop.stop_container(container, timeout=operation.timeout, by_user=not operation.resumes)
        self._say(title, events.Status.DONE, "Stopped", why, operation.service)

    async def _kill(self, operation: plan.Operation) -> None:
        container = self._container(operation)
        if container is None:
            return
        title = f"Container {container.record.name}"
        why = _news(operation.cause)
        self._say(title, events.Status.WORKING, "Killing", why, operation.service)
        number = signals.parse(operation.signal or "SIGKILL")
        await self._loop.kill_container(container, number)
        if number == signals.parse("SIGKILL"):
            await self._loop.ended_within(container, 30.0)
        self._say(title, events.Status.DONE, "Killed", why, operation.service)

    async def _remove(self, operation: plan.Operation) -> None:
        container = self._container(operation)
        if container is None:
            return
        title = f"Container {container.record.name}"
        why = _news(operation.cause)
        self._say(title, events.Status.WORKING, "Removing", why, operation.service)
        self._inherited[container.id] = live.anonymous_volumes(container)
        await self._loop.remove_container(container, volumes=operation.volumes)
        self._say(title, events.Status.DONE, "Removed", why, operation.service)

    async def _wait(self, operation: plan.Operation) -> None:
        """What a dependent's start waits for; the dependents say why whenever that has changed."""
        condition = waiting.Condition(operation.condition)
        title = self._title(operation)
        self._say(title, events.Status.WORKING, "Waiting", operation.cause, operation.service)

        def look() -> waiting.Verdict:
            verdict = waiting.judge(condition, self._loop.seen(operation.service))
            if not verdict.met and not verdict.failed:
                self._hold(operation, verdict.reason)
            return verdict

        try:
            verdict = await self._loop.changes.until(look)
        finally:
            for asker in operation.askers:
                self._loop.holds.release(asker, operation.id)
        if verdict.met:
            text = {"service_healthy": "Healthy", "service_completed_successfully": "Exited"}.get(condition, "Running")
            self._say(title, events.Status.DONE, text, service=operation.service)
            return
        if not operation.required:
            self._say(title, events.Status.WARNING, "Skipped", f"optional dependency failed: {verdict.said}")
            return
        tail = await self._loop.run(self._loop.last_lines, operation.service)
        raise errors.ContainerError(
            f"dependency `{operation.service}` failed to start: {verdict.said}",
            hint=f"see `devenv logs {operation.service}`",
            note=tail or None,
        )

    def _hold(self, operation: plan.Operation, because: reasons.Reason | None) -> None:
        reason = reasons.dependency(operation.service, operation.condition, because)
        for asker in operation.askers:
            if not self._loop.holds.hold(asker, operation.id, reason):
                continue
            now, held = time.time(), self._loop.holds.of(asker)
            for container in self._loop.of_service(asker):
                if not container.runs:
                    event = self._loop.event(
                        f"Container {container.record.name}",
                        events.Status.WORKING,
                        "Waiting",
                        details=reasons.details(held, now),
                        service=asker,
                    )
                    self._emit(dataclasses.replace(event, reasons=tuple(each.to_json() for each in held)))


def _news(cause: str) -> str:
    """What somebody has just asked for needs no reason beside it."""
    return "" if cause == plan.ASKED_FOR else cause
