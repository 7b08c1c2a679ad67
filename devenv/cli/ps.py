"""``devenv ps``: read from disk, so it works with no supervisor and starts none."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import context, formats, gotemplate, inventory, listing, options, table, waits
from devenv.reconcile import reasons
from devenv.util import paths


class Status(StrEnum):
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    RUNNING = "running"
    DEAD = "dead"
    CREATED = "created"
    EXITED = "exited"


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also stopped and one-off containers")] = False,
    quiet: options.Quiet = False,
    names_only: Annotated[bool, typer.Option("--services", help="Only print names of services")] = False,
    status: Annotated[
        list[Status] | None, typer.Option("--status", help="Only containers in this state; may be repeated")
    ] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="status=STATE", help="Same as --status")
    ] = None,
    format: listing.Format = "table",
    no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Do not cut columns")] = False,
    orphans: Annotated[
        bool, typer.Option("--orphans/--no-orphans", help="Also services the spec no longer has")
    ] = True,
) -> None:
    """List containers."""
    shape = "" if gotemplate.is_template(format) else options.table_format(format)
    states = frozenset({*(status or ()), *(_filter(text) for text in filters or ())})
    project = context.find(ctx.obj)
    wanted = project.check_services(services)
    containers = inventory.of_services(inventory.load(project.where, project.identity.id), wanted)
    chosen = [item for item in containers if _is_shown(item, states, every=every)]
    if not orphans and project.services is not None:
        chosen = [item for item in chosen if item.record.service in project.services]
    if quiet:
        print("".join(f"{item.record.id}\n" for item in chosen), end="")
    elif names_only:
        print("".join(f"{name}\n" for name in dict.fromkeys(item.record.service for item in chosen)), end="")
    elif shape is options.Format.TABLE:
        print(_table(project, chosen, waits.of(project, chosen), truncate=not no_trunc), end="")
    else:
        now, why = time.time(), waits.of(project, chosen)
        rows = [
            {
                **fields(project.where, item, now=now, truncate=not no_trunc),
                "Reasons": [reasons.shown(each, now) for each in why.get(item.record.id, ())],
            }
            for item in chosen
        ]
        listing.show(rows, format, {})


def _filter(text: str) -> Status:
    key, _, value = text.partition("=")
    if key == "status" and value in set(Status):
        return Status(value)
    raise errors.UsageError(
        f"`--filter {text}` is not understood", hint=f"write status=STATE, one of {', '.join(Status)}"
    )


def _is_shown(container: inventory.Container, states: frozenset[str], *, every: bool) -> bool:
    if states:
        return container.state in states
    return every or container.state in inventory.ACTIVE


def _table(
    project: context.Found,
    containers: list[inventory.Container],
    why: dict[str, list[reasons.Reason]],
    *,
    truncate: bool,
) -> str:
    now = time.time()
    rows = [
        (
            item.record.name,
            item.record.image,
            formats.command(item.record.command, truncate=truncate),
            item.record.service,
            f"{formats.duration(now - item.record.created)} ago",
            item.status(now),
            formats.ports(port._asdict() for port in inventory.publishers(project.where, item)),
        )
        for item in containers
    ]
    heads = ("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS")
    if not why:
        return table.render(heads, rows)
    # Docker's columns, and one more while there is anything to say.
    told = ["; ".join(each.phrase(now) for each in why.get(item.record.id, ())) for item in containers]
    return table.render((*heads, "WHY"), [(*row, text) for row, text in zip(rows, told, strict=True)])


def fields(where: paths.Paths, item: inventory.Container, *, now: float, truncate: bool) -> dict[str, Any]:
    """One container, in docker compose's field names and units."""
    record = item.record
    ports = [port._asdict() for port in inventory.publishers(where, item)]
    mounts = [str(mount.get("source") or mount.get("target") or "") for mount in record.mounts]
    networks = record.networks or ({record.network_mode: {}} if record.network_mode else {})
    return {
        "Command": formats.command(record.command, truncate=truncate),
        "CreatedAt": formats.timestamp(record.created),
        "ExitCode": 255 if item.state == "exited" and item.exit_code is None else item.exit_code or 0,
        "Health": item.health,
        "ID": record.id[:12] if truncate else record.id,
        "Image": record.image,
        "Labels": formats.labels(record.labels),
        "LocalVolumes": str(len(record.volumes)),
        "Mounts": ",".join(mounts),
        "Name": record.name,
        "Names": record.name,
        "Networks": ",".join(networks),
        "Ports": formats.ports(ports),
        "Project": record.project,
        "Publishers": ports,
        "RunningFor": f"{formats.duration(now - record.created)} ago",
        "Service": record.service,
        "Size": "0B",
        "State": item.state,
        "Status": item.status(now),
    }
