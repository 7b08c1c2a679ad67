"""``devenv create``: ``up --no-start``."""

from __future__ import annotations

import typer

from devenv.cli import bringup, context, operate, options, up


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    force_recreate: options.ForceRecreate = False,
    no_recreate: options.NoRecreate = False,
    remove_orphans: options.RemoveOrphans = False,
    scale: options.Scale = None,
    build: options.Build = False,
    no_build: options.NoBuild = False,
    pull: options.Pull = "",
    quiet_pull: options.QuietPull = False,
    frozen: options.Frozen = False,
    yes: options.Yes = False,
) -> None:
    """Create containers, networks and volumes without starting anything."""
    operate.exclusive(force_recreate=force_recreate, no_recreate=no_recreate)
    up.check_images(build=build, no_build=no_build, pull=pull)
    project = context.load(ctx.obj, services)
    wishes = bringup.Wishes(
        services=tuple(project.check_services(services)),
        recreate="force" if force_recreate else "never" if no_recreate else "diverged",
        no_start=True,
        remove_orphans=remove_orphans,
        scale=operate.scales(scale),
        pull=pull,
        quiet_pull=quiet_pull,
        frozen=frozen,
    )
    bringup.build(ctx.obj, project, wishes, bringup.Building(build, no_build, pull, quiet_pull, frozen=frozen))
    bringup.bring_up(ctx.obj, project, wishes, title="create")
