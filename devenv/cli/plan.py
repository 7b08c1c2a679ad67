"""``devenv plan``: what ``up`` would do, and why. Changes nothing."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from devenv.cli import bringup, context, operate, options
from devenv.cli.display import sink


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    force_recreate: options.ForceRecreate = False,
    no_recreate: options.NoRecreate = False,
    no_deps: options.NoDeps = False,
    remove_orphans: options.RemoveOrphans = False,
    scale: options.Scale = None,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="text or json")] = "text",
) -> None:
    """Print what `up` would do, and why."""
    operate.exclusive(force_recreate=force_recreate, no_recreate=no_recreate)
    options.one_of("--format", format, ("text", "json"))
    given: options.Globals = ctx.obj
    project = context.load(given, services)
    wishes = bringup.Wishes(
        services=tuple(project.check_services(services)),
        recreate="force" if force_recreate else "never" if no_recreate else "diverged",
        no_deps=no_deps,
        remove_orphans=remove_orphans,
        scale=operate.scales(scale),
        dry_run=True,
    )
    quiet = given._replace(progress=options.Progress.QUIET)
    request = bringup.params(given, project, wishes)
    result = operate.request(operate.ensure(project), "up", request, show=sink.choose(quiet)) or {}
    if format == "json":
        print(json.dumps(result.get("steps", {}), indent=2))
    else:
        print(result.get("plan", ""), end="")
