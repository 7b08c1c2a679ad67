"""``devenv down``: everything of the project that ``up`` made, in reverse order; volumes only when asked."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from devenv.cli import context, formats, operate, options, terminal
from devenv.cli.display import sink


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    volumes: Annotated[bool, typer.Option("--volumes", "-v", help="Also remove named and anonymous volumes")] = False,
    remove_orphans: options.RemoveOrphans = False,
    timeout: options.Timeout = None,
    rmi: Annotated[
        str, typer.Option("--rmi", metavar="TYPE", help="Remove images, too: local (those without a name) or all")
    ] = "",
) -> None:
    """Stop and remove containers and networks."""
    from devenv.supervisor import engine

    given: options.Globals = ctx.obj
    seconds = formats.seconds_or_duration(timeout, option="--timeout")
    if rmi:
        options.one_of("--rmi", rmi, ("local", "all"))
    project = context.find(given)
    names = project.check_services(services)
    images = _images(given, project, rmi, names)
    known = operate.is_known(project)
    # An `up` that still pulls its images has nothing on disk, and is to be interrupted all the same.
    if not known and not engine.answers(project.identity, project.where):
        if not images:
            terminal.warn(f"nothing to remove for project `{project.identity.name}`")
        _remove(given, images)
        return
    params = {
        "services": names,
        "volumes": volumes,
        "remove_orphans": remove_orphans or os.environ.get("COMPOSE_REMOVE_ORPHANS") in {"1", "true"},
        "timeout": seconds,
    }
    params["dry_run"] = given.dry_run
    result = operate.request(operate.ensure(project), "down", params, show=sink.choose(given))
    if not known and not (result or {}).get("operations"):
        terminal.warn(f"nothing to remove for project `{project.identity.name}`")
    if given.dry_run:
        print((result or {}).get("plan", ""), end="")
    _remove(given, images)


def _images(given: options.Globals, project: context.Found, kind: str, services: list[str]) -> list[str]:
    if not kind:
        return []
    from devenv.cli import removing

    return removing.chosen(given, project, kind, services)


def _remove(given: options.Globals, images: list[str]) -> None:
    if given.dry_run:
        print("".join(f"remove image {name}\n" for name in images), end="")
    if given.dry_run or not images:
        return
    from devenv.cli import removing

    show = sink.choose(given)
    show.start("down")
    removing.remove(images, show)
