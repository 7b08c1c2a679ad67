"""What commands may ask of a supervisor: each makes a plan from what is there and has the loop carry it out.

Operations that change something are done one at a time. One that takes away (`down`, `stop`, `kill`, `rm`) does not
wait for an `up` that is under way, perhaps for a dependency that never gets healthy: it interrupts it, which leaves
what has begun finished and begins no more. What a killed supervisor had begun is finished as one more such operation,
before all others; an `up` of the same services takes its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from devenv import errors, events
from devenv.image import store as image_store
from devenv.reconcile import (
    checking,
    confinement,
    connecting,
    convert,
    convert_network,
    desired,
    holds,
    imagemounts,
    live,
    locking,
    loop,
    making,
    mounts,
    ownership,
    plan,
    planner,
    planning,
    pulling,
    usernamespace,
    waiting,
)
from devenv.runtime import subids
from devenv.supervisor import snapshots, watching

Send = Callable[[dict[str, Any]], None]
Params = Mapping[str, Any]

_TAKES_AWAY = frozenset({"down", "stop", "kill", "rm", "remove"})
_STOPS = _TAKES_AWAY | {"restart"}
_ALONGSIDE = frozenset({"run_start", "watch", "unwatch"})
_RECOVERY = "up of a supervisor that was killed"


class Operations:
    def __init__(self, engine: loop.Loop) -> None:
        self._loop = engine
        self._open = asyncio.Event()
        self._turn = asyncio.Lock()
        self._current: tuple[str, asyncio.Task[Any]] | None = None
        self._watching = watching.Watching(engine, self.perform)
        self._snapshots = taken = snapshots.Snapshots(engine)
        self._handlers: dict[str, Callable[[Params, Send], Awaitable[Any]]] = {
            "up": self._up,
            "down": self._down,
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "kill": self._kill,
            "rm": self._rm,
            "snapshot_save": taken.save,
            "snapshot_restore": taken.restore,
            "snapshot_remove": taken.remove,
            "pause": self._pause,
            "unpause": self._unpause,
            "run": self._run,
            "run_start": self._run_start,
            "remove": self._remove,
            "watch": self._watch,
            "unwatch": self._unwatch,
            "rename": self._rename,
            "network_connect": self._network_connect,
            "network_disconnect": self._network_disconnect,
            "network_remove": self._network_remove,
        }

    def open(self) -> asyncio.Task[None] | None:
        """Serve from now on. The task is what a killed supervisor had begun, if it had."""
        unfinished = self._loop.unfinished()
        environment = self._loop.environment
        if environment is not None and environment.watch is not None:
            self._loop.keep(self._watching.resume(environment))
        held = self._snapshots.held()
        task = asyncio.create_task(self._recover(unfinished)) if unfinished is not None or held else None
        self._open.set()
        return task

    async def _recover(self, unfinished: desired.Environment | None) -> None:
        async with self._turn_of(_RECOVERY):
            if self._snapshots.held():
                await self._snapshots.recover()
            if unfinished is not None:
                await self._loop.recover(unfinished)

    async def perform(self, op: str, params: Params, send: Send) -> Any:
        handler = self._handlers.get(op)
        if handler is None:
            raise errors.UsageError(f"the supervisor knows no `{op}`")
        await self._open.wait()
        # Whoever kills what is being stopped has waited long enough: the stop ends with the container.
        kills = op == "kill" and self._current is not None and self._current[0] in _STOPS
        if op in _ALONGSIDE or kills:
            return await handler(params, send)
        await self._overtake(op, params, send)
        async with self._turn_of(op):
            return await handler(params, send)

    @contextlib.asynccontextmanager
    async def _turn_of(self, op: str) -> AsyncIterator[None]:
        """Alone among operations that change something, and known to those that come meanwhile."""
        async with self._turn:
            task = asyncio.current_task()
            assert task is not None
            self._current = (op, task)
            try:
                yield
            finally:
                self._current = None

    async def _overtake(self, op: str, params: Params, send: Send) -> None:
        if self._current is None:
            return
        name, task = self._current
        replaces = op == "up" and name == _RECOVERY and self._covers_unfinished(params)
        if replaces or (op in _TAKES_AWAY and name not in _TAKES_AWAY):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.wait({task})
            return
        waits = self._loop.event(
            f"Project {self._loop.project.name}", events.Status.WARNING, "Waiting", details=f"for `{name}` to finish"
        )
        send({"event": waits.to_json()})

    def _covers_unfinished(self, params: Params) -> bool:
        unfinished = self._loop.unfinished()
        services = (params.get("project") or {}).get("services") or {}
        if unfinished is None or params.get("dry_run"):
            return False
        return set(unfinished.underway or ()) & set(services) <= set(params.get("services") or services)

    # -- up ----------------------------------------------------------------------------------------------------

    async def _up(self, params: Params, send: Send) -> Any:
        environment = desired.from_json(
            {**params, "directory": params["project"].get("working_dir") or self._loop.project.directory}
        )
        names, options = planning.needed(environment, params), planning.options(params)
        await self._loop.run(checking.check, environment, names, options.scale)
        environment, images = await self._images(environment, names, params, send)
        wanted = await self._loop.run(planning.wanted, environment, images)
        observed = await self._loop.observe(environment)
        todo = planner.plan_up(wanted, observed, options)
        answer = {"operations": len(todo.operations), "plan": todo.to_text(), "steps": todo.to_json()}
        if params.get("dry_run"):
            return answer
        self._warn(environment, images, send)
        for note in todo.notes:
            send({"event": self._loop.event("Plan", events.Status.WARNING, "Note", details=note).to_json()})
        for each in todo.done:
            title = f"Container {each.name}"
            event = self._loop.event(title, events.Status.DONE, "Done", details=each.cause, service=each.service)
            send({"event": event.to_json()})
        environment = await self._watch_or_renew(environment, names, params)
        if not todo.is_empty:
            await self._join(environment, names, send)
            await self._loop.begin(environment, names)
            try:
                outcome = await self._loop.execute(
                    todo,
                    environment=environment,
                    images=images,
                    emit=_emitter(send),
                    renew_anonymous=bool(params.get("renew_volumes")),
                )
            finally:
                await asyncio.shield(self._loop.settle(environment))
            outcome.raise_first()
        else:
            # What makes no container anew may have changed: for the next supervisor, and for whoever reads.
            if environment != self._loop.environment:
                await self._loop.settle(environment)
            if not params.get("silent"):
                self._say_running(names, send)
        if params.get("wait") and not params.get("no_start"):
            await self._wait_ready(names, params.get("wait_timeout"))
        answer["containers"] = [
            {"id": item.id, "name": item.record.name, "service": name, "number": item.record.number}
            for name in names
            for item in self._loop.of_service(name)
        ]
        return answer

    async def _watch_or_renew(
        self, environment: desired.Environment, names: list[str], params: Params
    ) -> desired.Environment:
        """With ``watch`` ("attached" or "background") files are watched before anything is started."""
        wish, before = str(params.get("watch") or ""), self._loop.environment
        if wish:
            await self._watching.begin(
                environment, names, background=wish == "background", environ=params.get("environ") or {}
            )
        else:
            await self._watching.renew(environment)
        if wish == "background":
            return dataclasses.replace(environment, watch=tuple(names))
        return dataclasses.replace(environment, watch=None if before is None else before.watch)

    async def _watch(self, params: Params, send: Send) -> Any:
        await self._watching.attend(params, send)
        return {}

    async def _unwatch(self, _params: Params, _send: Send) -> Any:
        was = await self._watching.stop()
        if self._loop.environment is not None and self._loop.environment.watch is not None:
            await self._loop.settle(dataclasses.replace(self._loop.environment, watch=None))
        return {"watched": was}

    async def _images(
        self, environment: desired.Environment, services: list[str], params: Params, send: Send
    ) -> tuple[desired.Environment, dict[str, image_store.Image]]:
        """By service. What is wanted twice is had once, all of it at the same time; images that are mounted, too."""
        override = str(params.get("pull") or "")
        store = self._loop.containers.images
        own = [pulling.wish(name, environment.services[name], override=override) for name in services]
        told = holds.Pulls(
            self._loop.holds,
            ((each.service, each.reference) for each in own),
            _quieted(send) if params.get("quiet_pull") else _emitter(send),
        )
        images = pulling.Images(
            self._loop.where,
            store,
            params.get("environ") or os.environ,
            lock=locking.Lock(self._loop.where, store, environment.directory, frozen=bool(params.get("frozen"))),
            emit=told,
            dry_run=bool(params.get("dry_run")),
        )
        mounted = list(imagemounts.wishes(environment, services, override=override))
        try:
            found = await images.obtain_all([*own, *mounted], base=environment.directory)
        finally:
            told.finish()
        if mounted:
            pinned = {each.reference: images.pinned(each) for each in mounted}
            environment = imagemounts.resolved(environment, {each: found[each] for each in mounted}, pinned)
        return environment, {each.service: found[each] for each in own}

    def _warn(self, environment: desired.Environment, images: Mapping[str, image_store.Image], send: Send) -> None:
        for name in sorted(environment.services):
            service = environment.services[name]
            unset = [f"service `{name}`: {text}" for text in making.unset_limits(service, self._loop.where)]
            confined = confinement.notes(service, environment.directory)
            if name in images:
                confined = [*confined, *ownership.notes(service, images[name], environment.directory)]
            unset += [f"service `{name}`: {text}" for text in (*confined, *usernamespace.notes(service))]
            for text in [*convert.warnings(name, service), *unset, *self._unreachable(name, service)]:
                event = self._loop.event(f"Service {name}", events.Status.WARNING, "Note", details=text, service=name)
                send({"event": event.to_json()})
        for text in convert_network.notes(environment.project):
            send({"event": self._loop.event("Networks", events.Status.WARNING, "Note", details=text).to_json()})

    async def _join(self, environment: desired.Environment, services: list[str], send: Send) -> None:
        """External networks are there and can be joined, before anything is made for them."""
        definitions = environment.definitions("networks")
        wanted = {key for name in services for key in environment.services[name].get("networks") or {}}
        external = [definitions[key] for key in sorted(wanted) if definitions[key].get("external")]
        networks = self._loop.containers.networks
        for definition in external:
            await self._loop.run(networks.ensure, convert_network.network(definition))
        for note in networks.notes() if external else ():
            event = self._loop.event(f"Project {self._loop.project.name}", events.Status.WARNING, "Note", details=note)
            send({"event": event.to_json()})

    def _say_running(self, services: list[str], send: Send) -> None:
        """Nothing had to be done: what runs already is the answer."""
        for item in (item for name in services for item in self._loop.of_service(name)):
            if item.runs:
                title = f"Container {item.record.name}"
                event = self._loop.event(title, events.Status.DONE, "Running", service=item.record.service)
                send({"event": event.to_json()})

    def _unreachable(self, name: str, service: convert.Service) -> list[str]:
        rootless = self._loop.containers.networks.is_rootless
        if rootless and any(port.get("x-kernel") for port in service.get("ports") or []):
            return [f"service `{name}`: `x-kernel` needs root; the port proxy carries its ports"]
        return []

    async def _wait_ready(self, services: list[str], timeout: float | None) -> None:
        verdicts = await self._loop.wait_until(services, waiting.Condition.READY, timeout=timeout)
        for name, verdict in verdicts.items():
            if verdict.failed:
                tail = await self._loop.run(self._loop.last_lines, name)
                raise errors.ContainerError(
                    f"service `{name}` did not get ready: {verdict.said}",
                    hint=f"see `devenv logs {name}`",
                    note=tail or None,
                )
        waits = [f"`{name}`: {verdict.said}" for name, verdict in verdicts.items() if not verdict.met]
        if waits:
            raise errors.ContainerError(f"not ready within {timeout:g} s: {'; '.join(waits)}")

    # -- the others --------------------------------------------------------------------------------------------

    async def _carry_out(self, todo: plan.Plan, send: Send, environment: desired.Environment | None = None) -> Any:
        outcome = await self._loop.execute(todo, environment=environment, images={}, emit=_emitter(send))
        outcome.raise_first()
        return {"operations": len(todo.operations), "plan": todo.to_text()}

    async def _down(self, params: Params, send: Send) -> Any:
        observed = await self._loop.observe(self._loop.environment)
        todo = planner.plan_down(
            observed,
            services=tuple(params.get("services") or ()),
            volumes=bool(params.get("volumes")),
            remove_orphans=bool(params.get("remove_orphans")),
            timeout=params.get("timeout"),
            known=_known(self._loop.environment),
        )
        if params.get("dry_run"):
            return {"operations": len(todo.operations), "plan": todo.to_text()}
        answer = await self._carry_out(todo, send)
        if self._loop.is_empty():
            await self._watching.end()
            await self._loop.run(desired.forget, self._loop.where, self._loop.project)
            await self._loop.run(subids.release, self._loop.where, self._loop.project.id)
            self._loop.environment = None
        return answer

    async def _start(self, params: Params, send: Send) -> Any:
        observed = await self._loop.observe(self._loop.environment)
        todo = planner.plan_start(observed, services=tuple(params.get("services") or ()))
        answer = await self._carry_out(todo, send, self._loop.environment)
        if params.get("wait"):
            names = params.get("services") or sorted({item.record.service for item in self._loop.live.values()})
            await self._wait_ready(list(names), params.get("wait_timeout"))
        return answer

    async def _stop(self, params: Params, send: Send) -> Any:
        observed = await self._loop.observe(self._loop.environment)
        services = tuple(params.get("services") or ())
        return await self._carry_out(
            planner.plan_stop(observed, services=services, timeout=params.get("timeout")), send
        )

    async def _restart(self, params: Params, send: Send) -> Any:
        observed = await self._loop.observe(self._loop.environment)
        todo = planner.plan_restart(
            observed,
            services=tuple(params.get("services") or ()),
            timeout=params.get("timeout"),
            no_deps=bool(params.get("no_deps")),
        )
        return await self._carry_out(todo, send, self._loop.environment)

    async def _kill(self, params: Params, send: Send) -> Any:
        if params.get("ids"):
            from devenv.runtime import signals

            for container_id in params["ids"]:
                container = self._loop.live.get(container_id)
                if container is not None:
                    await self._loop.kill_container(container, signals.parse(params.get("signal") or "SIGKILL"))
            return {}
        observed = await self._loop.observe(self._loop.environment)
        services = tuple(params.get("services") or ())
        todo = planner.plan_kill(observed, services=services, signal=params.get("signal") or "SIGKILL")
        return await self._carry_out(todo, send)

    async def _rm(self, params: Params, send: Send) -> Any:
        observed = await self._loop.observe(self._loop.environment)
        todo = planner.plan_remove(
            observed,
            services=tuple(params.get("services") or ()),
            containers=tuple(params.get("containers") or ()),
            stop=bool(params.get("stop")),
            volumes=bool(params.get("volumes")),
        )
        return await self._carry_out(todo, send)

    async def _pause(self, params: Params, send: Send) -> Any:
        return await self._freeze(params, send, thaw=False)

    async def _unpause(self, params: Params, send: Send) -> Any:
        return await self._freeze(params, send, thaw=True)

    async def _freeze(self, params: Params, send: Send, *, thaw: bool) -> Any:
        services, ids = set(params.get("services") or ()), set(params.get("containers") or ())
        state = "paused" if thaw else "running"
        for container in list(self._loop.live.values()):
            if container.status != state or (services and container.record.service not in services):
                continue
            if ids and container.id not in ids:
                continue
            monitor = self._loop.containers.monitor
            await self._loop.run(monitor.resume if thaw else monitor.pause, container.id)
            event = self._loop.event(
                f"Container {container.record.name}",
                events.Status.DONE,
                "Unpaused" if thaw else "Paused",
                service=container.record.service,
            )
            send({"event": event.to_json()})
        return {}

    async def _rename(self, params: Params, send: Send) -> Any:
        container = self._loop.live.get(params["container"])
        if container is None:
            raise errors.ContainerError("the container is gone")
        await self._loop.rename_container(container, params["name"])
        return {}

    # -- one-off containers ------------------------------------------------------------------------------------

    async def _run(self, params: Params, send: Send) -> Any:
        environment = desired.from_json(
            {**params, "directory": params["project"].get("working_dir") or self._loop.project.directory}
        )
        name = str(params["service"])
        if not params.get("no_deps") and environment.services[name].get("depends_on"):
            needed = list(environment.services[name]["depends_on"])
            await self._up({**params, "services": needed, "silent": True, "as_dependencies": True}, send)
        await self._loop.run(checking.check, planning.one_off(environment, name, params), [name], {name: 1})
        environment, images = await self._images(environment, [name], params, send)
        await self._join(environment, [name], send)
        todo = await self._networks_and_volumes(environment, name, images)
        await self._loop.execute(todo, environment=environment, images=images, emit=_emitter(send))
        changed = planning.one_off(environment, name, params)
        suffix = os.urandom(6).hex()
        wish = making.Wish(
            service=name,
            number=1,
            name=params.get("name") or f"{self._loop.project.name}-{name}-run-{suffix}",
            oneoff=True,
            auto_remove=bool(params.get("auto_remove")),
            labels=dict(params.get("labels") or {}),
        )
        builder = mounts.Builder(changed, self._loop.containers)
        container = await self._loop.create_container(changed, wish, images[name], builder)
        try:
            await self._loop.make_process(container)
            if params.get("start", True):
                await self._loop.let_go(container)
        except BaseException:
            await self._loop.remove_container(container, volumes=True)
            raise
        return {"id": container.id, "name": container.record.name}

    async def _networks_and_volumes(
        self, environment: desired.Environment, name: str, images: Mapping[str, image_store.Image]
    ) -> plan.Plan:
        """What a one-off container of the service needs and is not there."""
        wanted = await self._loop.run(planning.wanted, environment, images)
        observed = await self._loop.observe(environment)
        todo = planner.plan_up(wanted, observed, planning.options({"services": [name], "no_deps": True}))
        kinds = {plan.Type.NETWORK_CREATE, plan.Type.VOLUME_CREATE}
        return plan.Plan(operations=tuple(step for step in todo.operations if step.type in kinds))

    async def _run_start(self, params: Params, send: Send) -> Any:
        container = self._loop.live.get(str(params["id"]))
        if container is None:
            raise errors.ContainerError("the container is gone")
        await self._loop.let_go(container)
        return {}

    async def _remove(self, params: Params, send: Send) -> Any:
        for container_id in params.get("ids") or ():
            container = self._loop.live.get(container_id)
            if container is not None:
                await self._loop.stop_container(container, timeout=0.0)
                await self._loop.remove_container(container, volumes=bool(params.get("volumes")))
        return {}

    # -- networks ----------------------------------------------------------------------------------------------

    def _container(self, params: Params) -> live.Live:
        container = self._loop.live.get(str(params["container"]))
        if container is None:
            raise errors.ContainerError("the container is gone")
        return container

    async def _network_connect(self, params: Params, send: Send) -> Any:
        await connecting.connect(self._loop, self._container(params), str(params["network"]), params["wish"])
        return {"notes": list(self._loop.containers.networks.notes())}

    async def _network_disconnect(self, params: Params, send: Send) -> Any:
        await connecting.disconnect(self._loop, self._container(params), str(params["network"]))
        return {}

    async def _network_remove(self, params: Params, send: Send) -> Any:
        await self._loop.run(self._loop.containers.networks.remove, str(params["network"]))
        return {}


def _known(environment: desired.Environment | None) -> frozenset[str] | None:
    """The services of the spec, those of inactive profiles too: they may have been started by name."""
    return None if environment is None else environment.disabled.union(environment.services)


def _quieted(send: Send) -> Callable[[events.Event], None]:
    """Without progress; what went wrong is said all the same."""
    said = _emitter(send)
    silent = {events.Status.WORKING, events.Status.DONE}
    return lambda event: None if event.status in silent else said(event)


def _emitter(send: Send) -> Callable[[events.Event], None]:
    return lambda event: send({"event": event.to_json()})
