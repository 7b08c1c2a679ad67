"""``devenv start``."""

from __future__ import annotations

import typer

from devenv import errors
from devenv.cli import context, formats, inventory, operate, options


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    wait: options.Wait = False,
    wait_timeout: options.WaitTimeout = None,
) -> None:
    """Start stopped services, those they depend on first."""
    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "start")
    seconds = formats.seconds_or_duration(wait_timeout, option="--wait-timeout")
    project = context.find(given)
    names = project.check_services(services)
    containers = inventory.load(project.where, project.identity.id)
    present = {item.record.service for item in containers if not item.record.oneoff}
    for name in names or ([] if present else [""]):
        if name not in present:
            what = f"service `{name}` has" if name else f"project `{project.identity.name}` has"
            raise errors.ContainerError(f"{what} no container to start", hint="`devenv up -d` makes them")
    params = {"services": names, "wait": wait or seconds is not None, "wait_timeout": seconds}
    operate.perform(given, project, "start", params)
