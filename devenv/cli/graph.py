"""``devenv graph``: which services need which others, and on what terms."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv.cli import context, options


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="text, mermaid or dot")] = "text",
) -> None:
    """Print what depends on what."""
    from devenv.graph import cycle, dependency, render

    options.one_of("--format", format, tuple(render.FORMATS))
    project = context.load(ctx.obj)
    wanted = project.check_services(services)
    graph = dependency.build(project.canonical.get("services") or {}, wanted)
    cycle.check(graph)
    print(render.FORMATS[format](graph), end="")
