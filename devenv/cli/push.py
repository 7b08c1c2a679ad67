"""``devenv push``: the images that the project's services are built to."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer

from devenv import events
from devenv.cli import context, operate, options


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    ignore_push_failures: Annotated[
        bool, typer.Option("--ignore-push-failures", help="Go on without what can't be pushed")
    ] = False,
    include_deps: options.IncludeDeps = False,
    quiet: options.QuietTransfer = False,
) -> None:
    """Push the images of services that have a `build`."""
    from devenv.cli import transfers

    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "push")
    project = context.load(given, services)
    with transfers.Transfers(given, title="push", quiet=quiet) as running:
        jobs: dict[str, Any] = {}
        for name in project.with_dependencies(services) if include_deps else project.chosen(services):
            service = project.canonical["services"][name]
            image = str(service.get("image") or "")
            if not image or not service.get("build"):
                reason = "it is not built here" if image else "it has no `image:` to be pushed as"
                running.say(f"Image {image or name}", events.Status.DONE, "Skipped", reason, service=name)
                continue
            jobs[image] = functools.partial(running.pusher.push, image, service=name)
        pushed = running.all(jobs.values())
    if not ignore_push_failures:
        transfers.raise_first(pushed)
