"""``devenv pull``: the images of the project's services."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devenv import events
from devenv.cli import context, operate, options, terminal

if TYPE_CHECKING:
    from devenv.cli import transfers


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    ignore_buildable: Annotated[
        bool, typer.Option("--ignore-buildable", help="Leave out services that can be built")
    ] = False,
    ignore_pull_failures: Annotated[
        bool, typer.Option("--ignore-pull-failures", help="Go on without what can't be pulled")
    ] = False,
    include_deps: options.IncludeDeps = False,
    policy: Annotated[str, typer.Option("--policy", metavar="POLICY", help="missing or always")] = "",
    quiet: options.QuietTransfer = False,
    frozen: options.Frozen = False,
    parallel: Annotated[bool, typer.Option("--parallel/--no-parallel", hidden=True)] = True,
) -> None:
    """Pull the images of services."""
    from devenv.cli import transfers
    from devenv.reconcile import imagemounts, locking

    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "pull")
    if policy:
        options.one_of("--policy", policy, ("missing", "always"))
    project = context.load(given, services)
    with transfers.Transfers(given, title="pull", quiet=quiet) as running:
        lock = locking.Lock(project.where, running.store, project.identity.directory, frozen=frozen)
        jobs: dict[tuple[str, str], Any] = {}
        lockable: set[str] = set()
        chosen = project.with_dependencies(services) if include_deps else project.chosen(services)
        every = [(name, project.canonical["services"][name]) for name in chosen]
        every += [(name, each) for name in chosen for each in imagemounts.stand_ins(project.canonical, name)]
        for name, service in every:
            image, platform = str(service.get("image") or ""), str(service.get("platform") or "")
            pinned = lock.pinned(image) if image and not service.get("build") else image
            if reason := _needless(service, pinned, running, ignore_buildable=ignore_buildable, policy=policy):
                running.say(f"Image {image or name}", events.Status.DONE, "Skipped", reason, service=name)
                continue
            if not service.get("build"):
                lockable.add(image)
            pull = functools.partial(running.puller.pull, pinned, wanted_platform=platform, service=name, shown=image)
            jobs.setdefault((image, platform), pull)
        pulled = running.all(jobs.values())
        try:
            lock.keep(dict.fromkeys(lockable, False))
        except locking.Unwritable as exc:
            terminal.warn(exc.message)
    if not ignore_pull_failures:
        transfers.raise_first(pulled)


def _needless(
    service: Mapping[str, Any], pinned: str, running: transfers.Transfers, *, ignore_buildable: bool, policy: str
) -> str:
    """Why there is nothing to pull, as docker compose has it; "" if there is."""
    from devenv.image import reference

    policy = policy or str(service.get("pull_policy") or "")
    if not service.get("image"):
        return "it is built"
    wanted = reference.parse(pinned)
    if wanted.transport is not reference.Transport.REGISTRY:
        return "it is on this machine"
    if policy in {"never", "build"}:
        return f"its pull policy is `{policy}`"
    if service.get("build") and ignore_buildable:
        return "it can be built"
    # What is called `latest` is looked at each time, unless it is locked.
    looked_at = wanted.tag == "latest" and not wanted.digest
    if policy == "missing" and not looked_at and _is_here(wanted, str(service.get("platform") or ""), running):
        return "it is here"
    return ""


def _is_here(wanted: Any, platform: str, running: transfers.Transfers) -> bool:
    from devenv.image import platform as platforms

    stored = running.store.index.find(wanted)
    machine = platforms.machine(platform) if platform else os.uname().machine
    return stored is not None and running.store.has(stored, machine)
