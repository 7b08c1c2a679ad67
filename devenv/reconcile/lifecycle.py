"""Plans that need no spec: stopping, starting, restarting, killing and removing what is there. Pure.

Who depends on whom is read from the containers themselves, so all of this works when the file is broken or gone.
Stopping goes against the dependencies, each service once its dependents are over, however they ended: one that can't
be stopped does not keep the others running.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from devenv import errors
from devenv.graph import traversal
from devenv.reconcile import gates, observed, plan, preparing, steps


def plan_down(
    there: observed.Observed,
    *,
    services: Iterable[str] = (),
    known: Iterable[str] | None = None,
    volumes: bool = False,
    remove_orphans: bool = False,
    timeout: float | None = None,
) -> plan.Plan:
    """Remove containers, one-off ones too, then the networks and, on request, the volumes that nobody else uses.

    ``known`` are the services of the spec; containers of others are orphans, which stay unless asked for. None means
    that there is no spec to ask, and everything goes.
    """
    builder = plan.Builder()
    wanted = set(services)
    orphans: list[observed.Container] = []
    if known is not None and not remove_orphans and not wanted:
        orphans = _orphans(there, set(known))
    kept = {each.id for each in orphans}
    leaving = [each for each in there.containers if each.id not in kept and (not wanted or each.service in wanted)]
    if orphans:
        names = ", ".join(f"`{each.name}`" for each in orphans)
        builder.note(f"containers of services that are not in the spec stay: {names}; --remove-orphans removes them")
    cause = plan.ASKED_FOR
    stops = _stop(builder, leaving, cause=cause, timeout=timeout)
    removes = _remove(builder, leaving, stops, cause=cause, volumes=volumes)
    staying = [each for each in there.containers if each.id not in removes]
    _remove_networks(builder, there, leaving, staying, removes, all_of_them=not wanted)
    if volumes:
        _remove_volumes(builder, there, leaving, staying, removes, all_of_them=not wanted)
    return builder.plan()


def plan_stop(there: observed.Observed, *, services: Iterable[str] = (), timeout: float | None = None) -> plan.Plan:
    builder = plan.Builder()
    _stop(builder, _of_services(there, services), cause=plan.ASKED_FOR, timeout=timeout)
    return builder.plan()


def plan_kill(there: observed.Observed, *, services: Iterable[str] = (), signal: str = "SIGKILL") -> plan.Plan:
    """At once and in no order. A named service that does not run is an error, as with docker compose."""
    builder = plan.Builder()
    wanted = list(services)
    running = [each for each in _of_services(there, wanted) if each.runs]
    _require(wanted, running, "has no running container", hint=None)
    for each in running:
        builder.add(
            plan.Type.CONTAINER_KILL,
            steps.resource(each),
            plan.ASKED_FOR,
            service=each.service,
            number=each.number,
            container_id=each.id,
            name=each.name,
            signal=signal,
        )
    return builder.plan()


def plan_start(there: observed.Observed, *, services: Iterable[str] = ()) -> plan.Plan:
    """Start what exists, in the order of its dependencies."""
    builder = plan.Builder()
    wanted = list(services)
    mine = _of_services(there, wanted)
    _require(wanted, mine, "has no container to start", hint="`devenv up {}` makes one")
    starting = [each for each in mine if not each.active]
    _start(builder, mine, {each.id: plan.ASKED_FOR for each in starting}, {})
    return builder.plan()


def plan_restart(
    there: observed.Observed,
    *,
    services: Iterable[str] = (),
    timeout: float | None = None,
    no_deps: bool = False,
) -> plan.Plan:
    """Stop and start again, and with them what asked to follow (`restart: true`) and runs."""
    builder = plan.Builder()
    wanted = list(services)
    mine = _of_services(there, wanted)
    _require(wanted, mine, "has no container to restart", hint="`devenv up {}` makes one")
    causes = {each.id: plan.ASKED_FOR for each in mine}
    if not no_deps:
        causes |= _followers(there, {each.service for each in mine}, causes)
    affected = [each for each in _of_services(there, ()) if each.id in causes]
    stops = _stop(builder, affected, cause=causes, timeout=timeout, resumes=True)
    _start(builder, affected, causes, stops)
    return builder.plan()


def plan_hold(there: observed.Observed, ids: Collection[str]) -> plan.Plan:
    """Stop these containers for a moment."""
    builder = plan.Builder()
    mine = _these(there, ids)
    causes = {each.id: "its volumes stand still" for each in mine}
    _stop(builder, mine, cause=causes, timeout=None, resumes=True)
    return builder.plan()


def plan_go_on(there: observed.Observed, ids: Collection[str]) -> plan.Plan:
    """Start them again, in the order of their dependencies."""
    builder = plan.Builder()
    mine = [each for each in _these(there, ids) if not each.active]
    _start(builder, mine, {each.id: "it was stopped for a moment" for each in mine}, {})
    return builder.plan()


def _these(there: observed.Observed, ids: Collection[str]) -> list[observed.Container]:
    return [each for each in there.containers if each.id in ids]


def plan_remove(
    there: observed.Observed,
    *,
    services: Iterable[str] = (),
    containers: Iterable[str] = (),
    stop: bool = False,
    volumes: bool = False,
    timeout: float | None = None,
) -> plan.Plan:
    """Remove containers that are stopped; with ``stop`` also those that are not. Networks and named volumes stay.

    ``containers``: only these, by id, be they one-off ones or not.
    """
    builder = plan.Builder()
    ids = set(containers)
    named = [each for each in there.containers if each.id in ids] if ids else _of_services(there, services)
    mine = [each for each in named if stop or not each.active]
    stops = _stop(builder, mine, cause=plan.ASKED_FOR, timeout=timeout)
    _remove(builder, mine, stops, cause=plan.ASKED_FOR, volumes=volumes)
    return builder.plan()


# -- parts -----------------------------------------------------------------------------------------------------


def _of_services(there: observed.Observed, services: Iterable[str]) -> list[observed.Container]:
    """Containers of the services, or of all; one-off containers live their own life."""
    wanted = set(services)
    return [each for each in there.containers if not each.oneoff and (not wanted or each.service in wanted)]


def _orphans(there: observed.Observed, known: set[str]) -> list[observed.Container]:
    return sorted((each for each in there.containers if each.service not in known), key=_key)


def _require(services: Sequence[str], found: Sequence[observed.Container], lack: str, *, hint: str | None) -> None:
    have = {each.service for each in found}
    for name in sorted(set(services) - have):
        raise errors.ContainerError(f"service `{name}` {lack}", hint=hint and hint.format(name))


def _depends_on(containers: Iterable[observed.Container]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Service -> what its containers say that they need; of several containers the newest counts."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for each in sorted(containers, key=lambda each: (each.created, each.id)):
        found[each.service] = dict(each.depends_on)
    return found


def _key(container: observed.Container) -> tuple[str, bool, int, str, str]:
    return container.service, container.oneoff, container.number, container.name, container.id


def _in_order(containers: Iterable[observed.Container], order: Sequence[str]) -> list[observed.Container]:
    places = {name: place for place, name in enumerate(order)}
    return sorted(containers, key=lambda each: (places[each.service], _key(each)))


def _stop(
    builder: plan.Builder,
    containers: Sequence[observed.Container],
    *,
    cause: str | Mapping[str, str],
    timeout: float | None,
    resumes: bool = False,
) -> dict[str, str]:
    """Container id -> operation."""
    needs = _depends_on(containers)
    order = traversal.reverse_order(needs)
    places = {name: place for place, name in enumerate(order)}
    dependents = traversal.reversed_needs(needs)
    over: dict[str, list[str]] = {}  # service -> operations after which it and its dependents are over
    stops: dict[str, str] = {}
    by_service: dict[str, list[observed.Container]] = {}
    for each in sorted(containers, key=_key):
        by_service.setdefault(each.service, []).append(each)
    for name in order:
        # Only those before it: what a cycle adds (containers of two versions of a spec) is not waited for.
        earlier = sorted(other for other in dependents[name] if places[other] < places[name])
        before = sorted({operation for other in earlier for operation in over[other]})
        mine = []
        for each in by_service[name]:
            if each.active:
                why = cause if isinstance(cause, str) else cause[each.id]
                stops[each.id] = steps.stop(builder, each, why, timeout=timeout, after_ended=before, resumes=resumes)
                mine.append(stops[each.id])
        over[name] = mine or before
    return stops


def _remove(
    builder: plan.Builder,
    containers: Sequence[observed.Container],
    stops: Mapping[str, str],
    *,
    cause: str,
    volumes: bool,
) -> dict[str, str]:
    order = traversal.reverse_order(_depends_on(containers))
    return {
        each.id: steps.remove(builder, each, cause, after=[stops[each.id]] if each.id in stops else [], volumes=volumes)
        for each in _in_order(containers, order)
    }


def _remove_networks(
    builder: plan.Builder,
    there: observed.Observed,
    leaving: Sequence[observed.Container],
    staying: Sequence[observed.Container],
    removes: Mapping[str, str],
    *,
    all_of_them: bool,
) -> None:
    for network in sorted(there.networks, key=lambda each: each.name):
        users = [removes[each.id] for each in leaving if network.name in each.networks]
        guests = [each for each in staying if network.name in each.networks]
        if guests and (users or all_of_them):
            builder.note(f"network `{network.key or network.name}` stays: `{guests[0].name}` uses it")
        elif users or all_of_them:
            builder.add(
                plan.Type.NETWORK_REMOVE,
                f"network:{network.key or network.name}",
                plan.ASKED_FOR,
                after=users,
                name=network.name,
            )


def _remove_volumes(
    builder: plan.Builder,
    there: observed.Observed,
    leaving: Sequence[observed.Container],
    staying: Sequence[observed.Container],
    removes: Mapping[str, str],
    *,
    all_of_them: bool,
) -> None:
    for volume in sorted(there.volumes, key=lambda each: each.name):
        users = [removes[each.id] for each in leaving if volume.name in each.volumes]
        guests = [each for each in staying if volume.name in each.volumes]
        if guests and (users or all_of_them):
            builder.note(f"volume `{volume.key or volume.name}` stays: `{guests[0].name}` uses it")
        elif users or all_of_them:
            builder.add(
                plan.Type.VOLUME_REMOVE,
                f"volume:{volume.key or volume.name}",
                "asked for with its data",
                after=users,
                name=volume.name,
            )


def _start(
    builder: plan.Builder,
    taking_part: Sequence[observed.Container],
    causes: Mapping[str, str],
    stops: Mapping[str, str],
) -> None:
    """Start those that have a cause; services that don't take part impose no conditions."""
    depends_on = _depends_on(taking_part)
    by_service: dict[str, list[observed.Container]] = {}
    for each in sorted(taking_part, key=_key):
        by_service.setdefault(each.service, []).append(each)
    gate = gates.Gates(
        builder,
        depends_on=depends_on,
        there=by_service,
        starting={each.service for each in taking_part if each.id in causes},
    )
    for name in traversal.order(depends_on):
        after, after_ended = gate.before(name)
        starting = [each for each in by_service[name] if each.id in causes]
        prepared = preparing.add(
            builder,
            name,
            starting[-1].pre_start if starting else (),
            [preparing.Start(each.number, not each.ever_started, each.id, each.name, after) for each in starting],
            ran=any(each.ever_started for each in by_service[name]),
            after_ended=after_ended,
        )
        for each in starting:
            operation = builder.add(
                plan.Type.CONTAINER_START,
                steps.resource(each),
                causes[each.id],
                after=[*after, *([stops[each.id]] if each.id in stops else []), *prepared.get(each.number, ())],
                after_ended=after_ended,
                service=name,
                number=each.number,
                container_id=each.id,
                name=each.name,
            )
            gate.started_by(name, operation)


def _followers(there: observed.Observed, restarted: set[str], already: Mapping[str, str]) -> dict[str, str]:
    """Running containers, by id, of services that follow a restarted one, however far; and why."""
    everybody = _of_services(there, ())
    depends_on = _depends_on(everybody)
    found: dict[str, str] = {}
    for name in traversal.order(depends_on):
        leaders = sorted(
            other for other, terms in depends_on[name].items() if terms.get("restart") and other in restarted
        )
        mine = [each for each in everybody if each.service == name and each.runs and each.id not in already]
        if leaders and mine:
            found |= {each.id: f"`{leaders[0]}` is restarted" for each in mine}
            restarted.add(name)
    return found
