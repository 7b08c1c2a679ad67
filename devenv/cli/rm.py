"""``devenv rm``: remove containers that have stopped."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import context, inventory, operate, options, terminal
from devenv.cli.display import sink


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask")] = False,
    stop: Annotated[bool, typer.Option("--stop", "-s", help="Stop them first")] = False,
    volumes: Annotated[bool, typer.Option("--volumes", "-v", help="Also remove anonymous volumes")] = False,
    every: Annotated[bool, typer.Option("--all", "-a", hidden=True)] = False,
) -> None:
    """Remove stopped containers of services."""
    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "rm")
    project = context.find(given)
    names = project.check_services(services)
    containers = inventory.of_services(inventory.load(project.where, project.identity.id), names)
    doomed = [item for item in containers if stop or item.state not in inventory.ACTIVE]
    if not doomed:
        terminal.warn("no stopped containers")
        return
    if not force:
        listed = ", ".join(terminal.visible(item.record.name) for item in doomed)
        if not confirm(f"Going to remove {listed}\nAre you sure? [yN] "):
            return
    supervisor = operate.ensure(project)
    params = {"services": names, "stop": stop, "volumes": volumes}
    operate.request(supervisor, "rm", params, show=sink.choose(given))


def confirm(question: str) -> bool:
    """Ask on the terminal. Without one nobody can answer, and guessing is not devenv's to do."""
    if not terminal.is_terminal(sys.stdin):
        raise errors.UsageError("there is no terminal to ask on", hint="`--force` removes without asking")
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
