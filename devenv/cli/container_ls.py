"""``devenv container ls``: the containers of all projects, as ``docker ps``."""

from __future__ import annotations

import fnmatch
import os
import stat
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from devenv.cli import formats, inventory, listing, options, ps
from devenv.util import paths

# Fields that docker compose has and docker has not.
_COMPOSE_ALONE = frozenset({"ExitCode", "Health", "Name", "Publishers"})

KNOWN = ("id", "name", "label", "status", "health", "ancestor", "project", "service", "volume", "network", "exited")


def command(
    ctx: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that don't run")] = False,
    filters: listing.Filters = None,
    format: listing.Format = "table",
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", help="The newest, in whatever state")] = -1,
    latest: Annotated[bool, typer.Option("--latest", "-l", help="The newest one, in whatever state")] = False,
    no_trunc: listing.NoTrunc = False,
    quiet: options.Quiet = False,
    size: Annotated[bool, typer.Option("--size", "-s", help="Show how much they have written")] = False,
) -> None:
    """List containers of all projects."""
    del ctx
    where = paths.locate()
    wanted = listing.filters(filters, KNOWN)
    chosen = sorted(inventory.load(where), key=lambda item: -item.record.created)
    newest = 1 if latest else last
    if newest >= 0:
        chosen = chosen[:newest]
    elif not every and "status" not in wanted:
        chosen = [item for item in chosen if item.state in inventory.ACTIVE]
    chosen = [item for item in chosen if matches(item, wanted)]
    rows = [_fields(where, item, truncate=not no_trunc, size=size) for item in chosen]
    if quiet:
        print("".join(f"{row['ID']}\n" for row in rows), end="")
        return
    columns = {
        "CONTAINER ID": "ID",
        "IMAGE": "Image",
        "COMMAND": "Command",
        "CREATED": "RunningFor",
        "STATUS": "Status",
        "PORTS": "Ports",
        "NAMES": "Names",
    }
    listing.show(rows, format, columns | ({"SIZE": "Size"} if size else {}))


def matches(item: inventory.Container, wanted: Mapping[str, Sequence[str]]) -> bool:
    record = item.record
    texts: dict[str, list[str]] = {
        "status": [item.state],
        "health": [item.health or "none"],
        "project": [record.project],
        "service": [record.service],
        "ancestor": [record.image, record.image_id, record.image_id.removeprefix("sha256:")[:12]],
        "volume": [*record.volumes, *(str(mount.get("target")) for mount in record.mounts)],
        "network": list(record.networks) or [record.network_mode],
        "exited": [str(item.exit_code)] if item.state == "exited" else [],
    }
    for key, values in wanted.items():
        if key == "id":
            found = any(record.id.startswith(value) for value in values)
        elif key == "name":
            found = any(value in record.name or fnmatch.fnmatchcase(record.name, value) for value in values)
        elif key == "label":
            pairs = {*record.labels, *(f"{name}={value}" for name, value in record.labels.items())}
            found = all(value in pairs for value in values)
        else:
            found = any(value in texts[key] for value in values)
        if not found:
            return False
    return True


def _fields(where: paths.Paths, item: inventory.Container, *, truncate: bool, size: bool) -> dict[str, Any]:
    found = ps.fields(where, item, now=time.time(), truncate=truncate)
    if size:
        found["Size"] = formats.size(written(item.folder))
    return {name: value for name, value in found.items() if name not in _COMPOSE_ALONE}


def written(folder: str) -> int:
    """In bytes, of the files in a container's writable layers. As an ordinary user, what may be read."""
    total = 0
    for name in sorted(os.listdir(folder)):
        if name.startswith("upper"):
            for parent, _, files in os.walk(f"{folder}/{name}"):
                for each in files:
                    try:
                        status = os.lstat(f"{parent}/{each}")
                    except OSError:
                        continue
                    if stat.S_ISREG(status.st_mode):
                        total += status.st_size
    return total
