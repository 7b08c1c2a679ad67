"""``devenv lock``, ``outdated`` and ``upgrade``: what the project's images are, whether there are newer ones, and
taking these.

Only registries are asked, and only for manifests; ``upgrade`` pulls what has moved. Nothing that runs is touched.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from devenv import errors
from devenv.cli import context, imaging, listing, operate, options, terminal

if TYPE_CHECKING:
    from devenv.cli import transfers
    from devenv.image import pull
    from devenv.spec import lockfile


def command(
    ctx: typer.Context,
    *,
    check: Annotated[bool, typer.Option("--check", help="Only tell whether it is complete, by the exit code")] = False,
) -> int:
    """Write devenv.lock: keep what is locked, add what is missing, drop what no service names."""
    from devenv.cli import transfers
    from devenv.reconcile import locking

    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "lock")
    project = context.load(given, warn=False)
    wanted = _images(project, None)
    with transfers.Transfers(given, title="lock") as running:
        lock = locking.Lock(project.where, running.store, project.identity.directory)
        missing = [name for name in wanted if name not in lock.images and not lock.is_local(name)]
        stale = [name for name in lock.images if name not in wanted]
        if check:
            for name in missing:
                terminal.warn(f"`{name}` is not locked")
            for name in stale:
                terminal.warn(f"`{name}` is locked, and no service names it")
            return 1 if missing or stale else 0
        lock.keep(dict.fromkeys(missing, False))
        found = _ask(running, [name for name in missing if name not in lock.images])
        lock.merge({name: _locked(each) for name, each in found.items()}, only=wanted)
    return 0


def outdated(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    format: listing.Format = "table",
    quiet: options.Quiet = False,
) -> None:
    """List locked images that are something else in their registry by now."""
    from devenv.cli import transfers
    from devenv.reconcile import locking

    given: options.Globals = ctx.obj
    project = context.load(given, services, warn=False)
    wanted = _images(project, services)
    with transfers.Transfers(given, title="outdated") as running:
        locked = locking.Lock(project.where, running.store, project.identity.directory).images
        found = _ask(running, [name for name in wanted if name in locked])
    moved = {name: each for name, each in found.items() if each.target.digest != locked[name].digest}
    if quiet:
        print("".join(f"{name}\n" for name in sorted({name for each in moved for name in wanted[each]})), end="")
        return
    rows = [
        {
            "Image": name,
            "Services": ", ".join(wanted[name]),
            "Locked": locked[name].digest,
            "Current": each.target.digest,
            "LockedShort": imaging.short(locked[name].digest),
            "CurrentShort": imaging.short(each.target.digest),
        }
        for name, each in sorted(moved.items())
    ]
    columns = {"IMAGE": "Image", "SERVICES": "Services", "LOCKED": "LockedShort", "CURRENT": "CurrentShort"}
    listing.show(rows, format, columns)


def upgrade(ctx: typer.Context, *, services: options.Services = None, quiet: options.QuietTransfer = False) -> None:
    """Lock what images are in their registries now, and pull them. `devenv up` then takes them into use."""
    from devenv.cli import transfers
    from devenv.image import reference
    from devenv.reconcile import locking

    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "upgrade")
    project = context.load(given, services, warn=False)
    wanted = _images(project, services)
    with transfers.Transfers(given, title="upgrade", quiet=quiet) as running:
        lock = locking.Lock(project.where, running.store, project.identity.directory)
        before = dict(lock.images)
        wanted = {name: of for name, of in wanted.items() if not lock.is_local(name)}
        found = {name: _locked(each) for name, each in _ask(running, list(wanted)).items()}
        # The lock moves when all of it is here: what is locked can be used.
        jobs = []
        for name, platform in _platforms(project, wanted):
            pinned = f"{name}@{found[name].digest}"
            jobs.append(functools.partial(running.puller.pull, pinned, wanted_platform=platform, shown=name))
        transfers.raise_first(running.all(jobs))
        lock.merge(found, only=_images(project, None))
        for name, each in found.items():
            # The name follows, as it would have by a pull without a lock.
            stored = running.store.index.find(reference.parse(f"{name}@{each.digest}"))
            if stored is not None:
                running.store.index.put(stored.target, tags=[name])
    moved = [name for name in sorted(found) if name not in before or before[name].digest != found[name].digest]
    for name in moved:
        old = imaging.short(before[name].digest) if name in before else "not locked"
        print(f"{name}: {old} -> {imaging.short(found[name].digest)}")
    if not moved:
        terminal.warn("nothing has moved")


def _images(project: context.Loaded, services: list[str] | None) -> dict[str, list[str]]:
    """The names that can be locked, in full, and which services they are of: what they run, or are built upon."""
    from devenv.image import reference
    from devenv.reconcile import building, imagemounts, locking

    every = project.canonical["services"]
    own = {building.tag(building.image_name(project.spec.name, name, every[name])) for name in _built(project)}
    found: dict[str, list[str]] = defaultdict(list)
    for service in project.chosen(services):
        named = (
            _bases(project, service) if building.is_built(every[service]) else [str(every[service].get("image") or "")]
        )
        for image in dict.fromkeys([*named, *imagemounts.sources(every[service])]):
            wanted = reference.parse(image) if image else None
            if wanted is not None and locking.moves(wanted) and str(wanted) not in own:
                found[str(wanted)].append(service)
    return dict(found)


def _built(project: context.Loaded) -> list[str]:
    from devenv.reconcile import building

    return [name for name, service in project.canonical["services"].items() if building.is_built(service)]


def _bases(project: context.Loaded, service: str) -> list[str]:
    """What its Dockerfile names."""
    from devenv.reconcile import building, dockerfiles

    wishes = building.Wishes(environ=dict(os.environ))
    asked = building.make(project.canonical, service, wishes, directory=project.identity.directory)
    return dockerfiles.by_service({service: asked})[service]


def _platforms(project: context.Loaded, wanted: dict[str, list[str]]) -> list[tuple[str, str]]:
    every = project.canonical["services"]
    pairs = {(name, str(every[service].get("platform") or "")) for name, of in wanted.items() for service in of}
    return sorted(pairs)


def _ask(running: transfers.Transfers, names: Sequence[str]) -> dict[str, pull.Looked]:
    from devenv.cli import transfers

    found = running.all(functools.partial(running.puller.look, name) for name in names)
    transfers.raise_first(found)
    return {name: each for name, each in zip(names, found, strict=True) if not isinstance(each, errors.DevenvError)}


def _locked(found: pull.Looked) -> lockfile.Locked:
    from devenv.reconcile import locking

    return locking.locked(found.target, found.data, lambda _: found.config)
