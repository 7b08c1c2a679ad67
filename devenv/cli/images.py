"""``devenv images``: the images of containers that are there."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import typer

from devenv import errors
from devenv.cli import context, formats, imaging, inventory, options, table
from devenv.image import catalog, reference


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
    opened = imaging.Images.open()
    stored = {entry.id: entry for entry in opened.catalog.entries()}
    rows = [_fields(opened, item, stored.get(item.record.image_id)) for item in containers]
    if shape is options.Format.JSON:
        print(json.dumps(rows))
        return
    now = time.time()
    lines = [
        (
            row["ContainerName"],
            row["Repository"],
            row["Tag"],
            row["Platform"],
            imaging.short(row["ID"]),
            formats.size(row["Size"]),
            f"{formats.duration(now - catalog.moment(row['Created']))} ago" if row["Created"] else "N/A",
        )
        for row in rows
    ]
    print(table.render(("CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"), lines), end="")


def _fields(opened: imaging.Images, item: inventory.Container, entry: catalog.Entry | None) -> dict[str, Any]:
    """docker compose's names. Of what lies on the disk only the reference and the id are known."""
    record = item.record
    repository, tag = record.image, ""
    with contextlib.suppress(errors.ImageError):
        parsed = reference.parse(record.image)
        if parsed.transport is reference.Transport.REGISTRY:
            repository, tag = parsed._replace(tag="", digest="").familiar, parsed.tag or "<none>"
    config = entry.config if entry else {}
    platform = "/".join(str(config[key]) for key in ("os", "architecture", "variant") if config.get(key))
    return {
        "ID": record.image_id,
        "ContainerName": record.name,
        "Repository": repository,
        "Tag": tag,
        "Platform": platform,
        "Size": opened.catalog.size(entry) if entry else 0,
        "Created": str(config.get("created") or ""),
        "LastTagTime": formats.rfc3339(entry.stored.added) if entry else "",
    }
