"""What has to be done so that what is there becomes what is desired. Pure: the same input gives the same plan.

Here are the plans towards a spec: `plan_up`, and `plan_recover` for a supervisor that finds a half-done `up`. Those
that need no spec (`plan_down`, `plan_stop`, …) are made in `devenv.reconcile.lifecycle`.

A container that differs is replaced: the new one is made first, so that a failure to make it leaves the old one
running; then the old one is stopped and removed and the new one started. What asked to follow it (`restart: true`)
stops before it and starts after it. A plan of nothing is empty, which is what makes `up` idempotent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from devenv import errors
from devenv.graph import traversal
from devenv.reconcile import gates, observed, plan, preparing, steps
from devenv.reconcile.lifecycle import plan_down, plan_kill, plan_remove, plan_restart, plan_start, plan_stop

__all__ = [
    "Desired",
    "DesiredNetwork",
    "DesiredService",
    "DesiredVolume",
    "UpOptions",
    "divergence",
    "plan_down",
    "plan_kill",
    "plan_recover",
    "plan_remove",
    "plan_restart",
    "plan_start",
    "plan_stop",
    "plan_up",
]

Recreate = Literal["diverged", "force", "never"]
# Number, cause, the container unless the plan makes it, and what of its own comes before.
_Start = tuple[int, str, observed.Container | None, list[str]]

# What a container can be given while it runs: that it changed is no reason to make it anew (docker update).
LIVE = frozenset(
    "blkio_config cpu_period cpu_quota cpu_shares cpus cpuset deploy.resources deploy.restart_policy mem_limit "
    "mem_reservation mem_swappiness memswap_limit pids_limit restart".split()
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DesiredNetwork:
    name: str  # the full name
    key: str
    digest: str = ""
    external: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DesiredVolume:
    name: str
    key: str
    digest: str = ""
    external: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DesiredService:
    name: str
    config_digest: str = ""
    sections: Mapping[str, str] = dataclasses.field(default_factory=dict)  # attribute -> digest of its value
    image_id: str = ""  # "" while it is not known: then it does not count
    replicas: int = 1
    depends_on: gates.DependsOn = dataclasses.field(default_factory=dict)  # long form; see graph.edges.depends_on
    networks: tuple[str, ...] = ()  # full names
    volumes: tuple[str, ...] = ()  # full names; named ones only
    volumes_from: tuple[str, ...] = ()  # services
    pre_start: tuple[bool, ...] = ()  # its hooks: whether each is for every replica
    once: bool = False  # a job: what ended well is not run again unless something that it is made of has changed
    container_name: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    services: Mapping[str, DesiredService]
    networks: tuple[DesiredNetwork, ...] = ()
    volumes: tuple[DesiredVolume, ...] = ()
    disabled: frozenset[str] = frozenset()  # services the spec has but no active profile: no orphans


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    services: tuple[str, ...] = ()  # none means all
    again: frozenset[str] = frozenset()  # jobs among these are run again, whether they are done or not
    recreate: Recreate = "diverged"
    always_recreate_deps: bool = False
    renew_anonymous_volumes: bool = False
    no_deps: bool = False
    no_start: bool = False
    remove_orphans: bool = False
    scale: Mapping[str, int] = dataclasses.field(default_factory=dict)
    timeout: float | None = None


def plan_up(desired: Desired, there: observed.Observed, options: UpOptions | None = None) -> plan.Plan:
    """Towards the spec, or the part of it that ``options.services`` need."""
    return _Up(desired, there, options or UpOptions()).plan()


def plan_recover(desired: Desired, there: observed.Observed, *, services: Iterable[str] = ()) -> plan.Plan:
    """What a killed `up` left undone: replicas that are missing, and containers that were made and never started.

    What ran and ended is left alone, and so is what differs from the spec: nobody asked for it a second time.
    """
    options = UpOptions(services=tuple(services), recreate="never", no_deps=True)
    return _Up(desired, there, options, recover=True).plan()


@dataclasses.dataclass(slots=True)
class _Work:
    """What is decided for one service, before any operation is made of it."""

    service: DesiredService
    kept: list[observed.Container] = dataclasses.field(default_factory=list)
    removed: list[tuple[observed.Container, str]] = dataclasses.field(default_factory=list)
    recreated: list[tuple[observed.Container, str]] = dataclasses.field(default_factory=list)
    created: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    updated: list[tuple[observed.Container, str]] = dataclasses.field(default_factory=list)
    started: list[tuple[observed.Container, str]] = dataclasses.field(default_factory=list)
    # Stopped and started again, as they are.
    bounced: dict[str, tuple[observed.Container, str]] = dataclasses.field(default_factory=dict)
    # The dependencies it follows that are made again.
    follows: set[str] = dataclasses.field(default_factory=set)

    creates: dict[int, str] = dataclasses.field(default_factory=dict)  # number -> operation
    updates: dict[str, str] = dataclasses.field(default_factory=dict)  # container id -> operation
    stops: dict[str, str] = dataclasses.field(default_factory=dict)  # container id -> operation
    removes: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def starts_something(self) -> bool:
        return bool(self.recreated or self.created or self.started or self.bounced)

    @property
    def comes_again(self) -> bool:
        """What follows it has to follow now."""
        return bool(self.recreated or self.bounced)


class _Up:
    def __init__(
        self, desired: Desired, there: observed.Observed, options: UpOptions, *, recover: bool = False
    ) -> None:
        self.desired = desired
        self.there = there
        self.options = options
        self.recover = recover
        self.builder = plan.Builder()
        self.needs = {name: set(service.depends_on) for name, service in desired.services.items()}
        self.roots = set(options.services or desired.services)
        for name in sorted(self.roots.difference(desired.services)):
            raise errors.UsageError(f"no such service: `{name}`")
        self.selected = self.roots if options.no_deps else traversal.closure(self.needs, self.roots)
        self.order = traversal.order(self.needs)
        self.work: dict[str, _Work] = {}
        self.made: dict[str, str] = {}  # full name of a network or volume -> the operation that creates it
        self.remade: dict[str, str] = {}  # full name of a network -> the operation that creates it again

    def plan(self) -> plan.Plan:
        for name in self.order:
            self.work[name] = self._decide(self.desired.services[name])
        diverged = [] if self.recover else self._diverged_networks()
        if not self.recover and not self.options.no_start:
            self._bounce(diverged)
            self._repeat()
        self._make_volumes()
        self._make_networks()
        self._create()
        self._update()
        self._stop()
        self._remove()
        orphans = self._orphans()
        self._remake_networks(diverged, orphans)
        if not self.options.no_start:
            self._start()
        return self.builder.plan()

    # -- decisions ---------------------------------------------------------------------------------------------

    def _decide(self, service: DesiredService) -> _Work:
        work = _Work(service)
        mine = [each for each in self.there.containers if each.service == service.name and not each.oneoff]
        if service.name not in self.selected:
            work.kept = sorted(mine, key=_by_number)
            return work
        wanted = self._replicas(service)
        work.kept = self._drop_superseded(work, mine)
        if not self.recover:
            self._scale_down(work, wanted)
        have = len(work.kept)
        why = f"{wanted} wanted, {have} there" if mine and (wanted > 1 or have) else "there is none yet"
        taken = {each.number for each in work.kept}
        free = (number for number in range(1, wanted + len(taken) + 1) if number not in taken)
        work.created = [(next(free), why) for _ in range(max(0, wanted - have))]
        for each in work.kept:
            cause = self._recreate_cause(service, each)
            if cause and not (cause == divergence(service, each) and _differences(service, each) <= LIVE):
                work.recreated.append((each, cause))
                continue
            if cause:
                work.updated.append((each, cause))
            if start := self._start_cause(service, each):
                work.started.append((each, start))
        again = {each.id for each, _ in work.recreated}
        work.kept = [each for each in work.kept if each.id not in again]
        return work

    def _replicas(self, service: DesiredService) -> int:
        wanted = self.options.scale.get(service.name, service.replicas)
        if wanted > 1 and service.container_name:
            raise errors.UsageError(
                f"`{service.name}` can't have {wanted} containers: all would be called `{service.container_name}`",
                hint="remove `container_name` from the service",
            )
        return wanted

    def _drop_superseded(self, work: _Work, mine: list[observed.Container]) -> list[observed.Container]:
        """One container a number. There are two when something was killed between making one and removing the other."""
        best: dict[int, observed.Container] = {}
        for each in sorted(mine, key=lambda each: (not _matches(work.service, each), -each.created, each.id)):
            if best.setdefault(each.number, each) is not each:
                work.removed.append((each, "a newer one takes its place"))
        return sorted(best.values(), key=_by_number)

    def _scale_down(self, work: _Work, wanted: int) -> None:
        """Those that differ go first, then the highest numbers."""
        why = f"{wanted} wanted, {len(work.kept)} there"
        leaving = sorted(work.kept, key=lambda each: (_matches(work.service, each), -each.number))
        for each in leaving[: max(0, len(work.kept) - wanted)]:
            work.removed.append((each, why))
        gone = {each.id for each, _ in work.removed}
        work.kept = [each for each in work.kept if each.id not in gone]

    def _recreate_cause(self, service: DesiredService, container: observed.Container) -> str:
        options = self.options
        if options.recreate == "never":
            return ""
        if options.recreate == "force" and service.name in self.roots:
            return plan.ASKED_FOR
        if options.always_recreate_deps and service.name not in self.roots:
            return "asked for with its dependents"
        return divergence(service, container)

    def _start_cause(self, service: DesiredService, container: observed.Container) -> str:
        if self.recover and (container.ever_started or container.stopped_by_user):
            return ""
        if container.state == observed.State.CREATED:
            return "created and never started" if not container.ever_started else "not running"
        if container.state != observed.State.STOPPED:
            return ""
        if service.once and container.ended_well:
            return plan.ASKED_FOR if service.name in self.options.again else container.changed
        if container.stopped_by_user:
            return "stopped"
        return "ended, nobody saw how" if container.exit_code is None else f"exited with {container.exit_code}"

    def _bounce(self, networks: list[DesiredNetwork]) -> None:
        changed = {network.name: network.key for network in networks}
        for name in self.order:
            work = self.work[name]
            terms = work.service.depends_on
            for other in sorted(terms):
                # A service that doesn't take part is not asked to follow with --no-deps either: its dependency is gone.
                if terms[other].get("restart") and other in self.work and self.work[other].comes_again:
                    work.follows.add(other)
            for each in work.kept:
                attached = sorted(changed[network] for network in each.networks if network in changed)
                if each.runs and attached:
                    work.bounced[each.id] = (each, f"network `{attached[0]}` changed")
                elif each.runs and work.follows:
                    again = "recreated" if self.work[min(work.follows)].recreated else "restarted"
                    work.bounced[each.id] = (each, f"`{min(work.follows)}` is {again}")

    def _repeat(self) -> None:
        """Jobs that are done, and whose dependencies or volumes are not those that they did it with."""
        volumes = {volume.name for volume in self.there.volumes}
        for name in self.order:
            work = self.work[name]
            if not work.service.once or name not in self.selected:
                continue
            starting = {each.id for each, _ in work.started}
            for each in work.kept:
                if each.id in starting or not each.ended_well:
                    continue
                if cause := self._repeat_cause(work.service, volumes):
                    work.started.append((each, cause))
                else:
                    resource = f"service:{name}:{each.number}"
                    cause = "nothing that it is made of has changed"
                    self.builder.done(plan.Done(resource=resource, cause=cause, service=name, name=each.name))

    def _repeat_cause(self, service: DesiredService, volumes: set[str]) -> str:
        for other in sorted(service.depends_on):
            work = self.work.get(other)
            if work is not None and work.starts_something:
                return f"`{other}` is {'made anew' if work.created or work.recreated else 'started again'}"
        new = [volume for volume in service.volumes if volume not in volumes]
        return f"its volume `{new[0]}` is new" if new else ""

    def _diverged_networks(self) -> list[DesiredNetwork]:
        found = []
        there = {network.name: network for network in self.there.networks}
        for network in self._used(self.desired.networks, "networks"):
            seen = there.get(network.name)
            if seen is None or not (seen.digest and network.digest) or seen.digest == network.digest:
                continue
            guests = [each for each in self.there.containers if each.oneoff and each.runs]
            guests = [each for each in guests if network.name in each.networks]
            if guests:
                self.builder.note(
                    f"network `{network.key}` changed but stays as it is while `{guests[0].name}` uses it"
                )
            else:
                found.append(network)
        return found

    def _used(self, definitions: tuple[Any, ...], kind: str) -> list[Any]:
        """Networks or volumes of the selected services, without those that are somebody else's."""
        used = {name for service in self.selected for name in getattr(self.desired.services[service], kind)}
        return sorted(
            (each for each in definitions if each.name in used and not each.external), key=lambda each: str(each.key)
        )

    # -- operations --------------------------------------------------------------------------------------------

    def _make_volumes(self) -> None:
        there = {volume.name: volume for volume in self.there.volumes}
        for volume in self._used(self.desired.volumes, "volumes"):
            seen = there.get(volume.name)
            if seen is None:
                self.made[volume.name] = self.builder.add(
                    plan.Type.VOLUME_CREATE, f"volume:{volume.key}", "there is none yet", name=volume.name
                )
            elif seen.digest and volume.digest and seen.digest != volume.digest:
                # Compose asks before it throws the data away; a plan can't ask.
                self.builder.note(
                    f"volume `{volume.key}` was made from another definition and is kept with its data;"
                    f" `devenv volume rm {volume.name}` lets the next `up` make it anew"
                )

    def _make_networks(self) -> None:
        there = {network.name for network in self.there.networks}
        for network in self._used(self.desired.networks, "networks"):
            if network.name not in there:
                self.made[network.name] = self.builder.add(
                    plan.Type.NETWORK_CREATE, f"network:{network.key}", "there is none yet", name=network.name
                )

    def _create(self) -> None:
        for name in self.order:
            work = self.work[name]
            made_before = self._made_for(work)
            # Volumes without a name are known by the containers that have them.
            for other in self.desired.services[name].volumes_from:
                made_before = [*made_before, *(self.work[other].creates.values() if other in self.work else ())]
            wanted = [(number, cause, "") for number, cause in work.created]
            wanted += [(each.number, cause, each.id) for each, cause in work.recreated]
            for number, cause, replaces in sorted(wanted):
                work.creates[number] = self.builder.add(
                    plan.Type.CONTAINER_CREATE,
                    f"service:{name}:{number}",
                    cause,
                    after=made_before,
                    service=name,
                    number=number,
                    replaces="" if self.options.renew_anonymous_volumes else replaces,
                )

    def _update(self) -> None:
        for name in self.order:
            work = self.work[name]
            for each, cause in work.updated:
                work.updates[each.id] = self.builder.add(
                    plan.Type.CONTAINER_UPDATE,
                    f"service:{name}:{each.number}",
                    cause,
                    service=name,
                    number=each.number,
                    container_id=each.id,
                    name=each.name,
                )

    def _stop(self) -> None:
        """Whoever follows a dependency stops before it does, but not before it could be made again."""
        renewed: dict[str, list[str]] = {}
        for name in self.order:
            work = self.work[name]
            renewed[name] = sorted(
                {
                    operation
                    for other in work.follows
                    for operation in (*self.work[other].creates.values(), *renewed[other])
                }
            )
        for name in reversed(self.order):
            work = self.work[name]
            followers = [
                operation
                for other in self.order
                if name in self.work[other].follows
                for operation in self.work[other].stops.values()
            ]
            for each, cause in sorted(work.removed, key=_first_by_number):
                self._stop_one(work, each, cause)
            for each, cause in work.recreated:
                self._stop_one(work, each, cause, after=[work.creates[each.number]], after_ended=followers)
            for each, cause in work.bounced.values():
                self._stop_one(work, each, cause, after=renewed[name], after_ended=followers, resumes=True)

    def _stop_one(self, work: _Work, container: observed.Container, cause: str, **parameters: Any) -> None:
        if container.active:
            work.stops[container.id] = steps.stop(
                self.builder, container, cause, timeout=self.options.timeout, **parameters
            )

    def _remove(self) -> None:
        for name in self.order:
            work = self.work[name]
            for each, cause in sorted(work.removed, key=_first_by_number):
                work.removes[each.id] = steps.remove(
                    self.builder, each, cause, after=_of(work.stops, each), volumes=False
                )
            for each, cause in work.recreated:
                work.removes[each.id] = steps.remove(
                    self.builder,
                    each,
                    cause,
                    after=_of(work.stops, each) or [work.creates[each.number]],
                    volumes=self.options.renew_anonymous_volumes,
                )

    def _orphans(self) -> dict[str, str]:
        """Container id -> the operation after which an orphan is out of the way."""
        known = {*self.desired.services, *self.desired.disabled}
        orphans = sorted((each for each in self.there.containers if each.service not in known), key=_by_name)
        orphans = [each for each in orphans if not each.oneoff]
        if self.recover or not orphans:
            return {}
        if not self.options.remove_orphans:
            names = ", ".join(f"`{each.name}`" for each in orphans)
            self.builder.note(
                f"containers of services that are not in the spec: {names}; --remove-orphans removes them"
            )
            return {}
        found = {}
        for each in orphans:
            cause = "its service is not in the spec"
            after = [steps.stop(self.builder, each, cause, timeout=self.options.timeout)] if each.active else []
            found[each.id] = steps.remove(self.builder, each, cause, after=after, volumes=False)
        return found

    def _remake_networks(self, networks: list[DesiredNetwork], orphans: Mapping[str, str]) -> None:
        for network in networks:
            after = []
            for each in self.there.containers:
                if network.name not in each.networks:
                    continue
                work = self.work.get(each.service)
                if each.id in orphans:
                    after.append(orphans[each.id])
                elif work is not None and each.id in work.removes:
                    after.append(work.removes[each.id])
                elif work is not None and each.id in work.stops:
                    after.append(work.stops[each.id])
                elif each.active:
                    cause = f"network `{network.key}` changed"
                    after.append(steps.stop(self.builder, each, cause, timeout=self.options.timeout))
            self.remade[network.name] = self.builder.add(
                plan.Type.NETWORK_RECREATE,
                f"network:{network.key}",
                "its definition changed",
                after=after,
                name=network.name,
            )

    def _start(self) -> None:
        taking_part = {name for name, work in self.work.items() if name in self.selected or work.bounced}
        gate = gates.Gates(
            self.builder,
            depends_on={name: self.desired.services[name].depends_on for name in taking_part},
            there={name: work.kept for name, work in self.work.items()},
            starting=[name for name in taking_part if self.work[name].starts_something],
        )
        for name in self.order:
            work = self.work[name]
            if not work.starts_something:
                continue
            hard, soft = gate.before(name)
            hard += [self.remade[network] for network in work.service.networks if network in self.remade]
            starts = sorted(self._starts_of(work), key=lambda start: start[0])
            prepared = self._prepare(work, starts, hard, soft)
            for number, cause, container, before in starts:
                operation = self.builder.add(
                    plan.Type.CONTAINER_START,
                    f"service:{name}:{number}",
                    cause,
                    after=[*hard, *before, *prepared.get(number, ())],
                    after_ended=soft,
                    service=name,
                    number=number,
                    container_id="" if container is None else container.id,
                    name="" if container is None else container.name,
                )
                gate.started_by(name, operation)

    def _prepare(
        self, work: _Work, starts: list[_Start], after: list[str], after_ended: list[str]
    ) -> dict[int, list[str]]:
        fresh = [
            preparing.Start(
                number,
                fresh=container is None or not container.ever_started,
                container_id="" if container is None else container.id,
                name="" if container is None else container.name,
                after=[*after, *before],
            )
            for number, _, container, before in starts
        ]
        ran = any(each.ever_started for each in work.kept)
        return preparing.add(
            self.builder, work.service.name, work.service.pre_start, fresh, ran=ran, after_ended=after_ended
        )

    def _starts_of(self, work: _Work) -> list[_Start]:
        superseded: dict[int, list[str]] = {}
        for each, _ in work.removed:
            superseded.setdefault(each.number, []).append(work.removes[each.id])
        found: list[_Start] = []
        for number, _ in work.created:
            found.append((number, "created", None, [work.creates[number], *superseded.get(number, [])]))
        for each, _ in work.recreated:
            # It was removed only after the new one had been made.
            found.append((each.number, "recreated", None, [work.removes[each.id]]))
        for each, cause in work.started:
            before = [*self._made_for(work), *_of(work.updates, each), *superseded.get(each.number, [])]
            found.append((each.number, cause, each, before))
        for each, cause in work.bounced.values():
            before = [*self._made_for(work), *_of(work.updates, each), *_of(work.stops, each)]
            found.append((each.number, cause, each, before))
        return found

    def _made_for(self, work: _Work) -> list[str]:
        resources = (*work.service.networks, *work.service.volumes)
        return [self.made[resource] for resource in resources if resource in self.made]


def divergence(service: DesiredService, container: observed.Container) -> str:
    """How a container differs from its service, in words; empty when it does not."""
    if service.config_digest == container.config_digest and not _has_other_image(service, container):
        return ""
    return f"{', '.join(sorted(_differences(service, container)))} changed"


def _differences(service: DesiredService, container: observed.Container) -> set[str]:
    """The attributes; ``configuration`` where it is not known which."""
    sections = {"image"} if _has_other_image(service, container) else set()
    if service.sections and container.sections:
        every = {*service.sections, *container.sections}
        sections |= {name for name in every if service.sections.get(name) != container.sections.get(name)}
    return sections or {"configuration"}


def _has_other_image(service: DesiredService, container: observed.Container) -> bool:
    return bool(service.image_id and container.image_id and service.image_id != container.image_id)


def _matches(service: DesiredService, container: observed.Container) -> bool:
    return not divergence(service, container)


def _by_number(container: observed.Container) -> tuple[int, str]:
    return container.number, container.id


def _first_by_number(pair: tuple[observed.Container, str]) -> tuple[int, str]:
    return _by_number(pair[0])


def _by_name(container: observed.Container) -> tuple[str, str]:
    return container.name, container.id


def _of(operations: Mapping[str, str], container: observed.Container) -> list[str]:
    return [operations[container.id]] if container.id in operations else []
