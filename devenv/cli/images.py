"""``devenv images``: the images of containers that are there."""

from __future__ import annotations

import json
import time

import typer

from devenv.cli import context, formats, inventory, options, table


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    format: options.TableFormat = "table",
    quiet: options.Quiet = False,
) -> None:
    """List the images that containers use."""
    shape = options.table_format(format)
    project = context.find(ctx.obj)
    wanted = project.check_services(services)
    containers = inventory.of_services(inventory.load(project.where, project.identity.id), wanted)
    if quiet:
        print("".join(f"{digest}\n" for digest in dict.fromkeys(item.record.image_id for item in containers)), end="")
        return
    if shape is options.Format.JSON:
        rows = [
            {
                "ID": item.record.image_id,
                "ContainerName": item.record.name,
                "Repository": item.record.image,
                "Created": formats.rfc3339(item.record.created),
            }
            for item in containers
        ]
        print(json.dumps(rows))
        return
    now = time.time()
    lines = [
        (
            item.record.name,
            item.record.image,
            item.record.image_id.removeprefix("sha256:")[:12],
            f"{formats.duration(now - item.record.created)} ago",
        )
        for item in containers
    ]
    print(table.render(("CONTAINER", "IMAGE", "IMAGE ID", "CREATED"), lines), end="")
