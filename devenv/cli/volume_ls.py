"""``devenv volume ls``, ``devenv volume inspect`` and ``devenv volumes``, as docker and docker compose have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import context, formats, inventory, listing, options, table, voluming
from devenv.util import paths

KNOWN = ("dangling", "driver", "label", "name")
_COLUMNS = {"DRIVER": "Driver", "VOLUME NAME": "Name"}


def command(
    ctx: typer.Context,
    *,
    filters: listing.Filters = None,
    format: listing.Format = "table",
    quiet: options.Quiet = False,
) -> None:
    """List volumes of all projects."""
    del ctx
    where = paths.locate()
    used = voluming.users(where, inventory.load(where))
    wanted = listing.filters(filters, KNOWN)
    chosen = [each for each in voluming.every(where) if matches(each, wanted, used)]
    if quiet:
        print("".join(f"{each.volume.name}\n" for each in chosen), end="")
        return
    listing.show([_fields(each) for each in chosen], format, _COLUMNS)


def of_project(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    format: options.TableFormat = "table",
    quiet: options.Quiet = False,
) -> None:
    """List the volumes of the project, or of services."""
    shape = options.table_format(format)
    project = context.find(ctx.obj)
    names = project.check_services(services)
    found = voluming.store(project.where, project.identity.id).list()
    if names:
        containers = inventory.of_services(inventory.load(project.where, project.identity.id), names)
        used = {name for item in containers for name in (*item.record.volumes, *item.record.anonymous_volumes)}
        found = [each for each in found if each.name in used]
    rows = [_fields(voluming.Owned(project.identity.id, each)) for each in found]
    if quiet:
        print("".join(f"{row['Name']}\n" for row in rows), end="")
    elif shape is options.Format.JSON:
        print(json.dumps(rows))
    else:
        print(table.render(list(_COLUMNS), [[row[field] for field in _COLUMNS.values()] for row in rows]), end="")


def inspect(
    ctx: typer.Context,
    *,
    names: Annotated[list[str], typer.Argument(metavar="VOLUME...", show_default=False)],
    format: listing.InspectFormat = "",
) -> None:
    """Show all about volumes."""
    where = paths.locate()
    found: list[dict[str, Any]] = []
    problems: list[errors.DevenvError] = []
    for name in names:
        try:
            found.append(_inspected(voluming.find(ctx, where, name)))
        except errors.DevenvError as exc:
            problems.append(exc)
    listing.show_inspected(found, format)
    listing.report(problems)


def matches(
    owned: voluming.Owned, wanted: Mapping[str, Sequence[str]], used: Mapping[tuple[str, str], Sequence[str]]
) -> bool:
    for key, values in wanted.items():
        if key == "dangling":
            found = any(listing.truth(value, option="dangling") == (owned.key not in used) for value in values)
        elif key == "driver":
            found = owned.volume.driver in values
        elif key == "label":
            found = all(_has_label(owned.volume.labels, value) for value in values)
        else:
            found = any(value in owned.volume.name for value in values)
        if not found:
            return False
    return True


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    key, sign, value = wanted.partition("=")
    return key in labels and (not sign or labels[key] == value)


def _fields(owned: voluming.Owned) -> dict[str, str]:
    return {
        "Availability": "N/A",
        "Driver": owned.volume.driver,
        "Group": "N/A",
        "Labels": formats.labels(dict(owned.volume.labels)),
        "Links": "N/A",
        "Mountpoint": owned.volume.path,
        "Name": owned.volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
        "Project": owned.project,
    }


def _inspected(owned: voluming.Owned) -> dict[str, Any]:
    return {
        "CreatedAt": formats.rfc3339(owned.volume.created),
        "Driver": owned.volume.driver,
        "Labels": dict(owned.volume.labels) or None,
        "Mountpoint": owned.volume.path,
        "Name": owned.volume.name,
        "Options": dict(owned.volume.driver_opts) or None,
        "Scope": "local",
        "Project": owned.project,
    }
