"""``devenv port``."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv import errors
from devenv.cli import context, formats, inventory, options


def command(
    ctx: typer.Context,
    *,
    service: options.Service,
    private_port: Annotated[int, typer.Argument(metavar="PRIVATE_PORT", min=1, max=65535, show_default=False)],
    protocol: Annotated[str, typer.Option("--protocol", metavar="PROTOCOL", help="tcp or udp")] = "tcp",
    index: options.Index = 0,
) -> None:
    """Print the host port that a service's port is published at."""
    options.one_of("--protocol", protocol, ("tcp", "udp"))
    project = context.find(ctx.obj)
    project.check_services([service])
    containers = inventory.load(project.where, project.identity.id)
    container = inventory.pick(containers, service, index, states=inventory.ACTIVE)
    published = [
        f"{formats.address(port.URL)}:{port.PublishedPort}"
        for port in inventory.publishers(project.where, container)
        if port.TargetPort == private_port and port.Protocol == protocol and port.PublishedPort
    ]
    if not published:
        known = formats.ports(item._asdict() for item in inventory.publishers(project.where, container))
        raise errors.NetworkError(
            f"port {private_port}/{protocol} of `{container.record.name}` is not published",
            hint=f"published: {known}" if known else None,
        )
    print(published[0])
