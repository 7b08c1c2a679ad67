"""Builds, in the command's own process: no supervisor need be there, and none waits while a compiler runs.

``up``, ``create``, ``run`` and ``scale`` build what is missing before they ask the supervisor for anything
(``beforehand``). They do so in a child of theirs, since whoever builds enters the user's namespace and has threads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from devenv import errors, events
from devenv.build import entering, request, result
from devenv.cli import bringup, context, failedstep, report, secretcommands, settings, terminal
from devenv.cli.display import sink, steps
from devenv.image import reference
from devenv.image import store as image_store
from devenv.linux import namespace, process
from devenv.reconcile import building, dockerfiles, locking
from devenv.supervisor import engine, launch
from devenv.util import aside, paths


class Site:
    """Where builds happen: the store, and how they are shown. ``with Site(given) as site``"""

    def __init__(self, given: settings.Globals, *, quiet: bool = False) -> None:
        self.where = paths.locate()
        # A process with threads can't change its user namespace: this comes first.
        launch.make_folders(self.where)
        engine.share_user_namespace(self.where)
        if not namespace.in_initial_user_namespace():
            # An ordinary user may mount in a namespace of their own user namespace alone: an image, to copy out of it.
            namespace.unshare(namespace.CLONE_NEWNS)
        self.given = given._replace(progress=settings.Progress.QUIET) if quiet else given
        self.store = image_store.ImageStore(self.where)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def solve(self, requests: Sequence[request.Request]) -> list[result.Result]:
        """Raises ``BuildError``, ``ImageError``."""
        from devenv.build import execution, solver

        shown = steps.choose(self.given)
        try:
            return solver.solve(requests, where=self.where, store=self.store, tell=shown.tell)
        except execution.StepFailed as exc:
            shown.finish()
            if exc.kept is not None:
                _enter(exc, exc.kept)
            elif exc.code_of_command and exc.hint is None:
                exc.hint = "`devenv build --debug` opens a shell where it failed"
            raise
        finally:
            shown.finish()

    def say(self, built: Sequence[tuple[str, result.Result]]) -> None:
        """What came of it. The first of each pair is the service."""
        for text in dict.fromkeys(text for _, each in built for text in _warnings(each)):
            if self.given.progress is not settings.Progress.QUIET:
                terminal.warn(text)
        display = sink.choose(self.given)
        display.start("build")
        for service, each in built:
            name = reference.parse(each.tags[0]).familiar.removesuffix(":latest") if each.tags else each.id
            if each.target is not None:
                display.show(_built(name, service, each))
        display.finish()


def _enter(failure: errors.BuildError, kept: entering.Kept) -> None:
    """A shell where a step failed, until it is left. The error is told before, since it says why one is there."""
    try:
        if not kept.place or not (terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stdout)):
            failure.hint = failure.hint or "`--debug` opens a shell on a terminal"
            return
        report.show(failure)
        print("a shell in the filesystem of the failed step; it is gone when you leave", file=sys.stderr)
        failedstep.enter(kept)
        raise SystemExit(failure.exit_code)
    finally:
        entering.remove(kept)


def _built(name: str, service: str, each: result.Result) -> events.Event:
    details = f"{each.cached} of {each.steps} steps were cached" if each.cached else ""
    return events.Event(
        resource=f"Image {name}", status=events.Status.DONE, text="Built", details=details, service=service
    )


def _warnings(each: result.Result) -> list[str]:
    return [f"{one.rule}: {one.message} ({one.place.file}:{one.place.line})" for one in each.warnings]


class Plan(NamedTuple):
    """The services to build, and upon which of the others each is built."""

    requests: Mapping[str, request.Request]
    needs: Mapping[str, set[str]]


def plan(project: context.Loaded, names: Collection[str], wishes: building.Wishes) -> Plan:
    """Of services that are built; what they are built upon comes on top. Reads Dockerfiles."""
    spec = project.canonical
    wanted = building.with_bases(spec, names)
    requests: dict[str, request.Request] = {}
    bases: dict[str, list[str]] = {}
    while new := [name for name in wanted if name not in requests]:
        asked = {name: building.make(spec, name, wishes, directory=project.identity.directory) for name in new}
        requests |= asked
        bases |= dockerfiles.by_service(asked)
        wanted = building.with_bases(spec, {*wanted, *building.named_by(spec, bases)})
    return Plan(requests, building.needs(spec, wanted, bases))


def build(
    site: Site, project: context.Loaded, names: Collection[str], wishes: building.Wishes, *, frozen: bool = False
) -> dict[str, result.Result]:
    """By service. What can be built at once is one graph, in which a step that two services share is done once."""
    planned = plan(project, names, wishes)
    lock = locking.Lock(project.where, site.store, project.identity.directory, frozen=frozen)
    moving = {name for name, asked in planned.requests.items() if asked.pull and not frozen}
    own = {tag for asked in planned.requests.values() for tag in asked.tags}
    if frozen:
        for image in _named(planned.requests):
            if str(reference.parse(image)) not in own:
                lock.pinned(image)
    pins = building.pins({name: locked.digest for name, locked in lock.images.items()})
    spec = secretcommands.filled(project.canonical, project.identity.directory, built=list(planned.requests))
    built: dict[str, result.Result] = {}
    for wave in building.waves(planned.needs):
        asked = [
            building.make(
                spec,
                name,
                wishes,
                directory=project.identity.directory,
                images={other: _digest(built[other], other) for other in planned.needs[name]},
                pinned={} if name in moving else pins,
            )
            for name in wave
        ]
        built |= dict(zip(wave, site.solve(asked), strict=True))
    _lock(lock, {image: name in moving for name, each in built.items() for image, _ in each.bases}, own)
    return built


def _named(requests: Mapping[str, request.Request]) -> list[str]:
    found = []
    for asked in requests.values():
        dockerfile = dockerfiles.read(asked)
        found += dockerfiles.images(dockerfile, asked) if dockerfile is not None else []
    return found


def _digest(built: result.Result, name: str) -> str:
    if built.target is None:
        raise errors.BuildError(f"`{name}` was built to files: nothing can be built upon it")
    return built.target.digest


def _lock(lock: locking.Lock, images: Mapping[str, bool], own: Collection[str]) -> None:
    lockable = {}
    for name, follows in images.items():
        wanted = reference.parse(name)
        if name != "scratch" and locking.moves(wanted) and str(wanted) not in own:
            lockable[name] = follows
    try:
        lock.keep(lockable)
    except locking.Unwritable as exc:
        # A checkout may be read-only, and can be built all the same.
        terminal.warn(exc.message)


# -- before services start ----------------------------------------------------------------------------------------


def beforehand(
    given: settings.Globals, project: context.Loaded, names: Collection[str], before: bringup.Building
) -> None:
    """Have the images of services that are built. Ends the command if that fails: it is told by then."""
    services = project.canonical["services"]
    built = [name for name in sorted(names) if building.is_built(services[name])]
    if not built or before.no_build or given.dry_run:
        return
    # Nobody should wait for a process when all is there.
    if not before.build and not any(_is_wanted(project, name, before.pull) for name in built):
        return

    ours = os.getpid()
    code = aside.run(lambda: report.guard(lambda: _have(given, project, built, before, parent=ours), []))
    if code:
        raise SystemExit(code)


def _policy(service: Mapping[str, Any], override: str) -> str:
    return override if override not in {"", "policy"} else str(service.get("pull_policy") or "missing")


def _is_wanted(project: context.Loaded, name: str, override: str) -> bool:
    service = project.canonical["services"][name]
    if _policy(service, override) in {"build", "always"}:
        return True
    store = image_store.ImageStore(project.where)
    try:
        return not _is_here(store, project, name)
    finally:
        store.close()


def _is_here(store: image_store.ImageStore, project: context.Loaded, name: str) -> bool:
    service = project.canonical["services"][name]
    wanted = reference.parse(building.image_name(project.spec.name, name, service))
    return store.index.find(wanted) is not None


def _have(
    given: settings.Globals, project: context.Loaded, names: Sequence[str], before: bringup.Building, *, parent: int
) -> int:
    wishes = building.Wishes(single_platform=True, environ=dict(os.environ))
    with Site(given, quiet=before.quiet_build) as site:
        # As Ctrl-C would, should our parent be killed. Entering a namespace forgets it (prctl(2)), so not sooner.
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            return report.INTERRUPTED
        left = list(names) if before.build else _unpulled(site, given, project, names, before)
        if left:
            built = build(site, project, left, wishes, frozen=before.frozen)
            site.say(list(built.items()))
    return 0


def _unpulled(
    site: Site, given: settings.Globals, project: context.Loaded, names: Sequence[str], before: bringup.Building
) -> list[str]:
    """Those that have to be built: neither here nor, where the spec says how they are called, in their registry."""
    left = []
    for name in names:
        service = project.canonical["services"][name]
        policy = _policy(service, before.pull)
        here = _is_here(site.store, project, name)
        if policy == "build" or not (service.get("image") or here):
            left.append(name)
        elif policy == "always" or not here:
            pulled = policy != "never" and service.get("image") and _pull(given, str(service["image"]), name, before)
            if not (pulled or here):
                left.append(name)
    return left


def _pull(given: settings.Globals, image: str, name: str, before: bringup.Building) -> bool:
    from devenv.cli import transfers
    from devenv.image.registry import errors as registry_errors

    with transfers.Transfers(given, title="pull", quiet=before.quiet_pull) as running:
        try:
            running.puller.look(image)
        except (registry_errors.NotFound, registry_errors.Unauthorized, registry_errors.Unreachable) as exc:
            running.say(f"Image {image}", events.Status.WARNING, "Built here", exc.message, service=name)
            return False
        running.puller.pull(image, service=name, shown=image)
    return True
