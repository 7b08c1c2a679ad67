"""The level-triggered loop: knows what is there, carries plans out, and keeps running what should run.

    commands ──▶ plan ──▶ execute ──▶ containers          (devenv.supervisor.operations makes the plans)
                                          │
    monitor's events ──▶ _look_again ─────┤ state, exit codes
    probes ──────────────▶ _on_health ────┤ health
                                          ▼
                        changes.notify(): everybody who waits looks again

Nothing here is remembered that a new loop could not find out: `start` reads the records and the states from disk and
takes up the health checks, the published ports and the restarts of what is there. An event is never believed for
what it says: it only makes the loop look at the state on disk again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from devenv import errors, events
from devenv.health import probe, prober
from devenv.image import store as image_store
from devenv.linux import heeding
from devenv.network import names, types
from devenv.reconcile import (
    containers,
    convert_network,
    desired,
    executor,
    holds,
    journal,
    journalling,
    live,
    making,
    mounts,
    naming,
    observed,
    observing,
    performing,
    plan,
    planner,
    planning,
    probing,
    publishing,
    readying,
    record,
    renaming,
    restart,
    waiting,
)
from devenv.runtime import logs, monitor_client, signals, state
from devenv.util import fs, identity, lock, paths

if TYPE_CHECKING:
    from devenv.reconcile import watching

T = TypeVar("T")
Publish = Callable[[dict[str, Any]], None]


def _note(text: str) -> None:
    """A line in supervisor.log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")


# What became of a container whose status was the one and is the other.
_DEAF = 0.2  # seconds
_NOTED = 5.0
_FREEZING = {("running", "paused"): "pause", ("paused", "running"): "unpause"}


def note_event(event: events.Event) -> None:
    _note(f"{event.resource} {event.text} {event.details}".rstrip())


def _addresses(container: live.Live) -> tuple[str, ...]:
    """As others of its networks know it."""
    return tuple(address for each in container.wiring.addresses.values() for address in each)


class Loop:
    def __init__(self, project: identity.Project, where: paths.Paths, *, publish: Publish, respawn: list[str]) -> None:
        self.project = project
        self.where = where
        self.containers = containers.Containers(project, where, respawn=respawn)
        self.live: dict[str, live.Live] = {}
        self.environment: desired.Environment | None = None
        self.changes = waiting.Changes()
        self.holds = holds.Holds(where, project)
        self.probes = probing.Probes(lambda: self.containers.monitor, self.run)
        self._looks = readying.Looks(self.probes, addresses=_addresses)
        self.journal = journal.Journal(where, project)
        self._publish = publish
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="mechanism")
        self._ports = publishing.Publishing(
            where.project_run(project.id), run=self.run, keep=self.keep, picture=self._picture, forward=self._forward
        )
        self._names = asyncio.Event()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._attended: monitor_client.Monitor | None = None
        self._attending = asyncio.Lock()
        self.session: watching.Session | None = None  # while files are watched

    # -- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look at what is there and take it up."""
        self._events = asyncio.get_running_loop()
        await self.run(self.containers.sweep)
        records = await self.run(record.load_all, self.where, self.project.id)
        await self.run(self.containers.sweep_files, records)
        for made in records:
            self.live[made.id] = live.from_disk(self.where, made)
        self.environment = desired.load(self.where, self.project)
        self.keep(self._refresh_names())
        if any(container.runs for container in self.live.values()):
            await self._attend_monitor()
            for container in list(self.live.values()):
                await self._take_up(container)
            self._names.set()
        else:
            # Its start overlaps with the command's own work.
            self.keep(self._attend_monitor())
            for container in list(self.live.values()):
                if container.status == "stopped":
                    self._settle(container)

    def unfinished(self) -> desired.Environment | None:
        """What was being brought up when the supervisor before this one was killed."""
        if self.environment is None or self.environment.underway is None:
            return None
        return self.environment

    async def recover(self, environment: desired.Environment) -> None:
        """Finish what a killed supervisor was doing: what was not made or never started, and nothing else."""
        try:
            await self._recover(environment)
        finally:
            await asyncio.shield(self.settle(environment))

    async def _recover(self, environment: desired.Environment) -> None:
        services = planning.needed(environment, {"services": list(environment.underway or ())})
        images = {
            name: await self.run(
                self.containers.images.resolve,
                str(environment.services[name].get("image") or ""),
                base=environment.directory,
                wanted_platform=str(environment.services[name].get("platform") or ""),
            )
            for name in services
        }
        wanted = await self.run(planning.wanted, environment, images)
        todo = planner.plan_recover(wanted, await self.observe(environment), services=services)
        outcome = await self.execute(todo, environment=environment, images=images, emit=note_event)
        for error in outcome.failed.values():
            _note(f"finishing what was begun: {error}")

    async def begin(self, environment: desired.Environment, services: Iterable[str]) -> None:
        """Write down what is being done, so that it can be finished by another supervisor."""
        self.environment = dataclasses.replace(environment, underway=tuple(services))
        if any(environment.services[name].get("networks") for name in self.environment.underway or ()):
            self._ports.prepare()
        await self.run(desired.save, self.where, self.project, self.environment)

    async def settle(self, environment: desired.Environment) -> None:
        """It is done, or given up by somebody who was told."""
        self.environment = dataclasses.replace(environment, underway=None)
        await self.run(desired.save, self.where, self.project, self.environment)

    async def _take_up(self, container: live.Live) -> None:
        if not container.runs:
            if container.status == "stopped":
                self._settle(container)
            return
        container.gave_up = False
        try:
            # A veth that vanished with a killed helper is made again; what is there is left alone.
            container.wiring = await self.run(self.containers.attach, container.record, container.pid or 0)
            await self._open_ports(container)
        except errors.DevenvError as exc:
            _note(f"taking up {container.record.name}: {exc}")
        self._probe(container)

    async def close(self) -> None:
        """Before a supervisor that has nothing left ends: take the helpers along."""
        for task in list(self._tasks):
            task.cancel()
        if self._attended is not None:
            # Its end is no news from now on.
            self._events.remove_reader(self._attended.fileno())
        if self.has_nothing_to_supervise():
            await self._ports.shut_down()
            await self.run(self.containers.shut_down)
        elif self._attended is not None:
            self._attended.bye()

    def has_nothing_to_supervise(self) -> bool:
        return all(container.gave_up and not container.runs for container in self.live.values())

    def is_empty(self) -> bool:
        return not self.live

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """A mechanism's blocking call, in a thread."""
        return await self._events.run_in_executor(self._threads, functools.partial(function, *args, **kwargs))

    def keep(self, work: Any) -> None:
        """A task of the loop's own, whose failure is printed and never lost."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _note(f"{type(error).__name__}: {error}")

    # -- the monitor -------------------------------------------------------------------------------------------

    async def _attend_monitor(self) -> None:
        async with self._attending:
            monitor = await self.run(lambda: self.containers.monitor)
            if self._attended is monitor:
                return
            self._attended = monitor
            self._events.add_reader(monitor.fileno(), self._on_monitor)
            # What happened while nobody listened.
            for container in list(self.live.values()):
                self._look_again(container)

    def _on_monitor(self) -> None:
        assert self._attended is not None
        for event in self._attended.poll():
            if event["event"] == "lost":
                self._monitor_died()
                return
            if event["event"] == "exec_exit":
                self.probes.ended(event)
            elif (container := self.live.get(str(event.get("id")))) is not None:
                self._look_again(container)

    def _monitor_died(self) -> None:
        """Containers go on; a new monitor adopts them and reads what they have logged meanwhile."""
        assert self._attended is not None
        self._events.remove_reader(self._attended.fileno())
        self._attended = None
        self.containers.lost_monitor()
        self.probes.lost()
        # Without containers it has left because it was idle. Whoever makes one brings another.
        if self.live:
            self.keep(self._attend_monitor())

    def _look_again(self, container: live.Live) -> None:
        """Compare what we knew with what the monitor wrote down, and act upon the difference."""
        ran, before = container.runs, container.status
        if before == "restarting":
            return
        live.update(container, state.load(self.where.container(container.id)))
        if ran and not container.runs:
            self._exited(container)
        elif before != container.status:
            if (before, container.status) in _FREEZING:
                self._tell(container, _FREEZING[before, container.status])
            self.changes.notify()

    def _exited(self, container: live.Live) -> None:
        container.forget_process()
        self.keep(self._ports.withdraw(container))
        self.keep(self._release_files(container))
        self._settle(container)
        if container.oom_killed:
            self._tell(container, "oom")
        self._tell(container, "die")
        self._names.set()
        self.changes.notify()

    def _settle(self, container: live.Live) -> None:
        """A container has ended: does its policy bring it back?"""
        decision = restart.decide(
            restart.Policy.from_json(container.record.restart),
            exit_code=container.exit_code,
            runs=container.restarts,
            streak=container.streak,
            uptime=container.uptime(),
            stopped_by_user=container.stopped_by_user,
        )
        if isinstance(decision, restart.Restart):
            container.status = "restarting"
            container.gave_up = False
            container.restarts, container.streak = decision.runs, decision.streak
            container.crash_loop = decision.crash_loop
            container.restart_at = time.time() + decision.delay
            container.restart = self._events.call_later(decision.delay, self._restart_due, container)
        else:
            container.gave_up = True
            container.gave_up_because = decision.reason
            if container.record.auto_remove:
                self.keep(self.remove_container(container, volumes=True))

    def _restart_due(self, container: live.Live) -> None:
        container.restart = None
        self.keep(self._restart(container))

    async def _restart(self, container: live.Live) -> None:
        try:
            await self.start_container(container, by_policy=True)
        except errors.DevenvError as exc:
            _note(f"restarting {container.record.name}: {exc}")
            container.status = "stopped"
            container.exit_code = 127
            self._exited(container)

    # -- one container -----------------------------------------------------------------------------------------

    async def create_container(
        self,
        environment: desired.Environment,
        wish: making.Wish,
        image: image_store.Image,
        builder: mounts.Builder,
    ) -> live.Live:
        def create() -> record.Record:
            family = [each.record for each in self.live.values()]
            own = None if wish.oneoff else (wish.service, wish.number)
            renaming.check_free(wish.name, own, family)
            made = making.make(environment, self.project, self.where, wish=wish, image=image, builder=builder)
            self.containers.prepare(made.record, made.options, files=made.files)
            return made.record

        made = await self.run(create)
        container = self.live[made.id] = live.Live(record=made)
        self._tell(container, "create")
        self.changes.notify()
        return container

    async def rename_container(self, container: live.Live, name: str) -> None:
        """Raises ``UsageError`` or ``ContainerError`` for a name that it can't have."""
        services = self.environment.project.get("services") or {} if self.environment is not None else {}

        def rename() -> list[record.Record]:
            with lock.held(f"{self.where.data}/rename.lock"):
                renaming.check(name, container.record, record.load_all(self.where), services=services)
                family = [each.record for each in self.live.values()]
                changed = renaming.renamed(name, container.record, family)
                for made in changed:
                    record.save(self.where, made)
                return changed

        for made in await self.run(rename):
            if made.id in self.live:
                self.live[made.id].record = made
        if container.runs:
            await self._ports.tell_names()
        self._tell(container, "rename")
        self.changes.notify()

    async def update_container(
        self, environment: desired.Environment, container: live.Live, image: image_store.Image
    ) -> None:
        """Give a container what its service asks for now, without making it anew."""

        def update() -> record.Record:
            made, limits = making.updated(environment, container.record, image)
            self.containers.update(made, limits, pid=container.pid)
            return made

        container.record = await self.run(update)
        self._tell(container, "update")
        self.changes.notify()

    async def start_container(self, container: live.Live, *, by_policy: bool = False) -> None:
        """Let a prepared or stopped container run. On failure nothing of it is left running."""
        await self.make_process(container, by_policy=by_policy)
        await self.let_go(container, by_policy=by_policy)

    async def make_process(self, container: live.Live, *, by_policy: bool = False) -> None:
        """Everything but the last step: the process is there, connected, and waits."""
        made = container.record
        if container.restart is not None:
            container.restart.cancel()
            container.restart = None
        if not by_policy:
            container.restarts = container.streak = 0
        record.set_stopped_by_user(self.where, made.id, stopped=False)
        container.stopped_by_user = False
        await self._attend_monitor()
        await self._release_files(container)
        shares = {kind: self._sharer(made, kind, mode) for kind, mode in made.shares.items()}
        container.pid = await self.run(self.containers.create, made, shares=shares, restarts=container.restarts)
        try:
            container.wiring = await self.run(self.containers.attach, made, container.pid)
            await self._name(container)
            await self._open_ports(container)
        except BaseException:
            await self.abort(container)
            raise
        container.gave_up = False

    async def let_go(self, container: live.Live, *, by_policy: bool = False) -> None:
        made = container.record
        if self.session is not None:
            await self.session.before_start(container)
        try:
            await self.run(self.containers.start, made)
        except BaseException:
            await self.abort(container)
            container.gave_up = not by_policy
            raise
        container.gave_up_because = ""
        live.update(container, await self._settled(container))
        # Known from the first moment: who waits for it must not take it for one without a check.
        container.health = live.starting(made)
        self._tell(container, "start")
        if not container.runs:
            # It ended before we looked.
            container.started = container.started or time.time()
            self._exited(container)
            return
        self._names.set()
        self._write_health(container)
        self._probe(container)
        self.changes.notify()

    async def _settled(self, container: live.Live) -> state.State | None:
        """Its state. Of one that has ended already, once the monitor has noted how: within milliseconds."""
        folder = self.where.container(container.id)
        found = state.load(folder)
        end = time.monotonic() + _NOTED
        while found is not None and found.status == "stopped" and found.exit_code is None:
            noted = fs.read_json(f"{folder}/state.json")
            found = state.load(folder)
            if (isinstance(noted, dict) and noted.get("status") == "stopped") or time.monotonic() > end:
                break
            await asyncio.sleep(0.01)
        return found

    async def abort(self, container: live.Live) -> None:
        """Leave no process of a container that could not be started, nor its ports open."""
        await self._ports.withdraw(container)
        await self._release_files(container)
        await self.run(self.containers.abort, container.record)
        container.pid = None
        container.gave_up = True

    async def _release_files(self, container: live.Live) -> None:
        """Whoever carries files into it holds its root open, which is not to be mounted twice."""
        if self.session is not None:
            await self.session.release(container)

    async def _open_ports(self, container: live.Live) -> None:
        if container.record.ports and container.pid is not None:
            try:
                await self._ports.publish(container, container.pid, _addresses(container))
            except errors.PortTaken as exc:
                raise await self.run(publishing.with_holder, exc, self.where) from exc

    def _sharer(self, made: record.Record, kind: str, mode: str) -> str:
        """The id of the container whose namespace ``made`` joins."""
        _, _, name = mode.partition(":")
        for container in self.live.values():
            if container.runs and name in {container.record.service, container.record.name, container.id}:
                return container.id
        what = {"pid": "processes"}.get(kind, kind)
        raise errors.ContainerError(f"`{made.name}` shares the {what} of `{name}`, which is not running")

    async def stop_container(self, container: live.Live, *, timeout: float | None, by_user: bool = True) -> None:
        """The stop signal, the grace period, then SIGKILL; returns when it has ended."""
        self._intend_stop(container, by_user=by_user)
        if container.restart is not None:
            container.forget_process()
            container.status, container.gave_up = "stopped", True
        if not container.runs:
            return
        grace = container.record.stop_grace_period if timeout is None else timeout
        if container.status == "paused":
            await self.run(self.containers.monitor.resume, container.id)
        number = signals.parse(container.record.stop_signal)
        deaf = await self._is_deaf(container, number)
        await self.kill_container(container, number, by_user=by_user)
        if deaf:  # nobody waits for what will not happen, but for a handler that it was just about to set
            deaf = not await self.ended_within(container, min(grace, _DEAF)) and await self._is_deaf(container, number)
        if not deaf and await self.ended_within(container, grace):
            self._tell(container, "stop")
            return
        await self.kill_container(container, signals.parse("SIGKILL"), by_user=by_user)
        if not await self.ended_within(container, 30.0):
            raise errors.ContainerError(
                f"`{container.record.name}` does not end, not even on SIGKILL",
                hint="a process in it is stuck in the kernel: see `ps -eo pid,stat,wchan:32,cmd`",
            )
        self._tell(container, "stop")

    async def _is_deaf(self, container: live.Live, number: int) -> bool:
        return container.pid is not None and await self.run(heeding.is_deaf, container.pid, number)

    def _intend_stop(self, container: live.Live, *, by_user: bool) -> None:
        # A stop that is part of a restart must not let a policy bring the container back meanwhile either.
        container.stopped_by_user = True
        if by_user:
            try:
                record.set_stopped_by_user(self.where, container.id, stopped=True)
            except OSError as exc:
                # A full disk keeps nobody from stopping; only a next supervisor would not know of it.
                _note(f"{container.record.name}: it can't be noted that it was stopped: {exc.strerror}")

    async def kill_container(self, container: live.Live, number: int, *, by_user: bool = True) -> None:
        self._intend_stop(container, by_user=by_user)
        with contextlib.suppress(errors.ContainerError):
            await self.run(self.containers.monitor.kill, container.id, number)

    async def ended_within(self, container: live.Live, delay: float) -> bool:
        def look() -> waiting.Verdict:
            return waiting.Verdict(not container.runs)

        try:
            await asyncio.wait_for(self.changes.until(look), delay)
        except TimeoutError:
            return False
        return True

    async def remove_container(self, container: live.Live, *, volumes: bool) -> None:
        container.forget_process()
        await self._ports.withdraw(container)
        await self._release_files(container)
        await self.run(self.containers.discard, container.record, volumes=volumes)
        self.live.pop(container.id, None)
        self._names.set()
        self._tell(container, "destroy")
        self.changes.notify()

    # -- health ------------------------------------------------------------------------------------------------

    def _probe(self, container: live.Live) -> None:
        check = container.record.healthcheck
        if check is None or not container.runs:
            return
        container.prober = asyncio.ensure_future(
            prober.watch(
                probe.Config.from_json(check),
                attempt=self._looks.attempt(check, container, folder=self.where.container(container.id)),
                changed=functools.partial(self._on_health, container),
                uptime=container.uptime(),
                before=container.health or None,
            )
        )

    def _on_health(self, container: live.Live, health: dict[str, Any]) -> None:
        before = container.health_status
        container.health = health
        self._write_health(container)
        if container.health_status != before and not health.get("soft"):
            self._tell(container, "health_status")
        self.changes.notify()
        fell = (before, container.health_status) == ("healthy", "unhealthy")
        if fell and (container.record.healthcheck or {}).get("restart"):
            self.keep(self._revive(container))

    async def _revive(self, container: live.Live) -> None:
        """It runs, and does not do what it is there for: `ready: {…, restart: true}`."""
        _note(f"{container.record.name} is unhealthy and is restarted")
        last = container.seen().last_output
        await self.stop_container(container, timeout=None, by_user=False)
        container.restarts += 1
        await self._restart(container)
        journalling.revival(self.journal, container, last)

    def _write_health(self, container: live.Live) -> None:
        """For `ps`, and for the supervisor that comes after this one."""
        if container.record.healthcheck:
            with contextlib.suppress(OSError):
                fs.write_json(f"{self.where.container(container.id)}/health.json", container.health)

    # -- names -------------------------------------------------------------------------------------------------

    async def introduce(self, container: live.Live) -> None:
        """After a change of its networks."""
        await self._name(container)
        self._names.set()

    async def _name(self, container: live.Live) -> None:
        """Before its first process runs, it knows everybody, and everybody knows it."""
        if naming.has_own_names(container.record):
            await self.run(self.containers.write_hosts, container.record, container.wiring)
        if container.wiring.addresses:
            problem = (await self._ports.tell_names()).get(container.id)
            if problem is not None:
                raise errors.NetworkError(
                    f"`{container.record.name}` can't be given a name server: {problem.strerror}",
                    hint="see `ports.log` in the project's folder of `devenv ls`",
                )

    def _forward(self, published: list[types.Published]) -> None:
        found = [(container, item) for item in published if (container := self.live.get(item.container_id))]
        self.containers.networks.forward(
            (container.id, convert_network.endpoint_specs(container.record.networks), item.publication, item.port)
            for container, item in found
            if container.record.networks
        )

    def _picture(self) -> names.Picture:
        cards: list[names.Card] = []
        for container in self.live.values():
            # From its first moment on, not only once it has been let go: then nothing has to be told twice.
            if container.pid and container.wiring.addresses:
                cards.append(naming.card(container.record, container.wiring, container.pid))
        services = self.environment.services if self.environment is not None else ()
        return names.Picture(tuple(cards), naming.known(services, (each.record for each in self.live.values())))

    async def _refresh_names(self) -> None:
        """Tell names again after each change; changes that come together are one telling."""
        while True:
            await self._names.wait()
            self._names.clear()
            try:
                await self._ports.tell_names()
            except errors.DevenvError as exc:
                _note(f"names: {exc}")

    # -- plans -------------------------------------------------------------------------------------------------

    async def execute(
        self,
        todo: plan.Plan,
        *,
        environment: desired.Environment | None,
        images: Mapping[str, image_store.Image],
        emit: performing.Emit,
        renew_anonymous: bool = False,
    ) -> executor.Outcome:
        performer = performing.Performer(self, environment, images, emit, renew_anonymous=renew_anonymous)
        return await executor.execute(todo, journalling.Recorder(self.journal, performer.perform).perform)

    async def observe(self, environment: desired.Environment | None) -> observed.Observed:
        everyone = list(self.live.values())
        return await self.run(observing.observe, self.project, everyone, self.containers, environment)

    def of_service(self, service: str) -> list[live.Live]:
        """Its containers, one-off ones left out, by number."""
        found = [item for item in self.live.values() if item.record.service == service and not item.record.oneoff]
        return sorted(found, key=lambda item: item.record.number)

    def seen(self, service: str) -> list[waiting.Seen]:
        return [container.seen() for container in self.of_service(service)]

    def last_lines(self, service: str) -> str:
        """What its first container printed last, for an error message."""
        for container in self.of_service(service):
            lines = logs.read(self.where.container(container.id), tail=10)
            texts = (line.data.decode(errors="replace") + ("" if line.partial else "\n") for line in lines)
            return "".join(texts).rstrip("\n")
        return ""

    async def wait_until(
        self, services: Iterable[str], condition: waiting.Condition, *, timeout: float | None
    ) -> dict[str, waiting.Verdict]:
        """The verdict for each service once all are met, one has failed or the time is over."""
        wanted = list(services)
        verdicts: dict[str, waiting.Verdict] = {}

        def look() -> waiting.Verdict:
            for service in wanted:
                verdicts[service] = waiting.judge(condition, self.seen(service))
            found = [*verdicts.values()]
            met, failed = all(each.met for each in found), any(each.failed for each in found)
            return waiting.Verdict(met, failed, again=waiting.soonest(each for each in found if not each.met))

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.changes.until(look), timeout)
        return verdicts

    # -- telling -----------------------------------------------------------------------------------------------

    def event(
        self, resource: str, status: events.Status, text: str, *, details: str = "", service: str = ""
    ) -> events.Event:
        return events.Event(
            resource=resource, status=status, text=text, details=details, service=service, time=time.time()
        )

    def _tell(self, container: live.Live, action: str) -> None:
        made, now = container.record, time.time()
        # First into the journal: who begins to listen and then reads that has everything.
        journalling.event(self.journal, container, action, now)
        self._publish(
            {
                "container": {
                    "id": made.id,
                    "name": made.name,
                    "service": made.service,
                    "number": made.number,
                    "oneoff": made.oneoff,
                    "action": action,
                    "exit_code": container.exit_code,
                    "gave_up": container.gave_up,
                    "health": "" if container.health.get("soft") else container.health_status,
                    "image": made.image,
                    "time": now,
                }
            }
        )
