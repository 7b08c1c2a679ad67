"""``devenv watch``: carry changed files into services, restart or rebuild them, as rules or Dockerfiles say."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import attached, bringup, context, filewatch, operate, options, report, terminal


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    no_up: Annotated[bool, typer.Option("--no-up", help="Don't start services before")] = False,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="Remove the images that a rebuild leaves without a name")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only show what goes wrong")] = False,
    explain: Annotated[
        list[str] | None,
        typer.Option("--explain", metavar="PATH", help="Say what a change to a file would do, and why, and do nothing"),
    ] = None,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="Of --explain: text or json")] = "text",
    stop: Annotated[bool, typer.Option("--stop", help="End the watching that `up -d --watch` began")] = False,
) -> int:
    """Carry changed files into services, restart or rebuild them, as `develop.watch` or their Dockerfile says."""
    options.one_of("--format", format, ("text", "json"))
    given: options.Globals = ctx.obj
    if explain:
        project = context.load(given, services, warn=False)
        from devenv.cli import explain as explaining

        explaining.show(project, project.chosen(services), explain, as_json=format == "json")
        return 0
    operate.refuse_dry_run(given, "watch")
    if stop:
        return _stop(given)
    project = context.load(given, services)
    names = project.check_services(services)
    request = {**filewatch.params(given, project, names), "prune": prune}

    def show(line: str) -> None:
        print(terminal.visible_log(line), file=sys.stderr, flush=True)

    import threading

    with attached.gentle_end(threading.Event()):
        try:
            if not no_up:
                wishes = bringup.Wishes(services=tuple(names), watch="attached")
                bringup.build(given, project, wishes, bringup.Building())
                bringup.bring_up(given, project, wishes, title="watch")
            filewatch.follow(project, request, show, quiet=quiet)
        except KeyboardInterrupt:
            return report.INTERRUPTED
    return 0


def _stop(given: options.Globals) -> int:
    from devenv.supervisor import client

    project = context.find(given)
    supervisor = client.Supervisor.find(project.identity, project.where)
    answer = supervisor.request("unwatch") if supervisor is not None else None
    if not (answer or {}).get("watched"):
        raise errors.UsageError("nothing is watched in the background")
    return 0
