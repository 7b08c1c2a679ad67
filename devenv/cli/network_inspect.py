"""``devenv network inspect``: all about networks, in Docker's field names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import formats, inventory, listing, network_ls, networking
from devenv.network import ipam, store, types
from devenv.util import paths


def command(
    ctx: typer.Context,
    *,
    names: Annotated[list[str], typer.Argument(metavar="NETWORK...", show_default=False)],
    format: listing.InspectFormat = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", hidden=True)] = False,
) -> None:
    """Show all about networks."""
    del ctx, verbose
    where = paths.locate()
    networks, containers = store.load_all(where), inventory.load(where)
    found, problems = [], []
    for name in names:
        try:
            found.append(described(networking.find(networks, name), containers))
        except errors.DevenvError as exc:
            problems.append(exc)
    listing.show_inspected(found, format)
    listing.report(problems)


def described(network: types.Network, containers: Sequence[inventory.Container]) -> dict[str, Any]:
    active = [item for item in networking.guests(network, containers) if item.state in inventory.ACTIVE]
    return {
        "Name": network.name,
        "Id": store.id_of(network),
        "Created": formats.rfc3339(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": any(":" not in item.subnet for item in network.subnets),
        "EnableIPv6": any(":" in item.subnet for item in network.subnets),
        "IPAM": {"Driver": "default", "Options": {}, "Config": [_pool(item) for item in network.subnets]},
        "Internal": network.internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {item.record.id: _container(network, item) for item in active},
        "Options": {
            "com.docker.network.bridge.name": network.bridge,
            "com.docker.network.driver.mtu": str(network.mtu),
        },
        "Labels": dict(network.labels),
        "Project": network_ls.project(network),
    }


def _pool(subnet: types.Subnet) -> dict[str, Any]:
    found: dict[str, Any] = {"Subnet": subnet.subnet, "Gateway": subnet.gateway}
    if subnet.ip_range:
        found["IPRange"] = subnet.ip_range
    if subnet.reserved:
        found["AuxiliaryAddresses"] = {str(number): address for number, address in enumerate(subnet.reserved)}
    return found


def _container(network: types.Network, item: inventory.Container) -> dict[str, Any]:
    held = network.allocations[item.record.id]
    return {
        "Name": item.record.name,
        "EndpointID": "",
        "MacAddress": held.mac,
        "IPv4Address": _with_prefix(network, held.ipv4),
        "IPv6Address": _with_prefix(network, held.ipv6),
    }


def _with_prefix(network: types.Network, address: str) -> str:
    return f"{address}/{ipam.prefix(network, address)}" if address else ""
