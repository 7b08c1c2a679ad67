"""``devenv scale``: ``up`` with other numbers, for the services named."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv.cli import bringup, context, operate, options


def command(
    ctx: typer.Context,
    *,
    counts: Annotated[list[str], typer.Argument(metavar="SERVICE=N...", show_default=False)],
    no_deps: options.NoDeps = False,
) -> None:
    """Set how many containers a service has."""
    given: options.Globals = ctx.obj
    scale = operate.scales(counts)
    project = context.load(given, list(scale))
    project.check_services(list(scale))
    wishes = bringup.Wishes(services=tuple(scale), scale=scale, no_deps=no_deps, recreate="never")
    bringup.build(given, project, wishes, bringup.Building())
    bringup.bring_up(given, project, wishes, title="scale")
