"""``devenv network ls``: the networks of all projects, and those that are nobody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from devenv.cli import formats, inventory, listing, networking, options
from devenv.network import store, types
from devenv.util import paths

_KEYS = ("dangling", "driver", "id", "label", "name", "project", "scope", "type")


def command(
    ctx: typer.Context,
    *,
    filters: listing.Filters = None,
    format: listing.Format = "table",
    no_trunc: listing.NoTrunc = False,
    quiet: options.Quiet = False,
) -> None:
    """List networks."""
    del ctx
    where = paths.locate()
    wanted = listing.filters(filters, _KEYS)
    containers = inventory.load(where)
    networks = sorted(store.load_all(where), key=lambda item: (item.name, item.project_id))
    rows = [_fields(item, truncate=not no_trunc) for item in networks if matches(item, wanted, containers)]
    if quiet:
        print("".join(f"{row['ID']}\n" for row in rows), end="")
        return
    listing.show(rows, format, {"NETWORK ID": "ID", "NAME": "Name", "DRIVER": "Driver", "SCOPE": "Scope"})


def matches(
    network: types.Network, wanted: Mapping[str, Sequence[str]], containers: Sequence[inventory.Container]
) -> bool:
    for key, values in wanted.items():
        if key == "id":
            found = any(store.id_of(network).startswith(value) for value in values)
        elif key == "name":
            found = any(value in network.name for value in values)
        elif key == "label":
            pairs = {*network.labels, *(f"{name}={value}" for name, value in network.labels.items())}
            found = all(value in pairs for value in values)
        elif key == "dangling":
            used = bool(networking.guests(network, containers))
            found = any(listing.truth(value, option="--filter dangling") != used for value in values)
        else:
            text = {"driver": network.driver, "project": project(network), "scope": "local", "type": "custom"}[key]
            found = text in values
        if not found:
            return False
    return True


def project(network: types.Network) -> str:
    """The name of the project that owns it; empty for none."""
    return "" if network.project_id == store.SHARED else network.project_id.rpartition("-")[0]


def _fields(network: types.Network, *, truncate: bool) -> dict[str, Any]:
    number = store.id_of(network)
    return {
        "ID": number[:12] if truncate else number,
        "Name": network.name,
        "Driver": network.driver,
        "Scope": "local",
        "IPv4": str(any(":" not in item.subnet for item in network.subnets)).lower(),
        "IPv6": str(any(":" in item.subnet for item in network.subnets)).lower(),
        "Internal": str(network.internal).lower(),
        "Labels": formats.labels(dict(network.labels)),
        "CreatedAt": formats.timestamp(network.created),
        "Project": project(network),
    }
