"""From the spec's networks, ports and names to what `devenv.network` takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from devenv.network import drivers, types

Service = Mapping[str, Any]
Definition = Mapping[str, Any]


def network(definition: Definition) -> types.NetworkSpec:
    """A top-level network, in its canonical form."""
    ipam = definition.get("ipam") or {}
    return types.NetworkSpec(
        name=definition["name"],
        driver=definition.get("driver") or "bridge",
        driver_opts=_strings(definition.get("driver_opts")),
        internal=bool(definition.get("internal")),
        external=bool(definition.get("external")),
        enable_ipv4=definition.get("enable_ipv4") is not False,
        enable_ipv6=bool(definition.get("enable_ipv6")),
        ipam_driver=ipam.get("driver") or "default",
        pools=tuple(
            types.Pool(
                subnet=pool.get("subnet") or "",
                gateway=pool.get("gateway") or "",
                ip_range=pool.get("ip_range") or "",
                aux_addresses=tuple(sorted(_strings(pool.get("aux_addresses")).items())),
            )
            for pool in ipam.get("config") or []
        ),
        labels=_strings(definition.get("labels")),
    )


def notes(project: Mapping[str, Any]) -> Iterator[str]:
    """Options of networks that are understood and have no effect."""
    for key, definition in sorted((project.get("networks") or {}).items()):
        unknown = sorted(set(_strings((definition or {}).get("driver_opts"))) - drivers.OPTIONS)
        unknown += [f"ipam.options.{name}" for name in ((definition or {}).get("ipam") or {}).get("options") or {}]
        if unknown and not definition.get("external"):
            yield f"network `{key}`: {', '.join(f'`{each}`' for each in unknown)} is understood and has no effect"
    for name, service in sorted((project.get("services") or {}).items()):
        for key, use in sorted((service.get("networks") or {}).items()):
            if (use or {}).get("driver_opts"):
                yield f"service `{name}`: `driver_opts` of its network `{key}` has no effect"


def _strings(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (values or {}).items()}


def endpoints(service: Service, definitions: Mapping[str, Definition]) -> dict[str, dict[str, Any]]:
    """By the network's full name: what the record keeps, aliases included."""
    wishes: dict[str, dict[str, Any]] = {}
    for key, given in sorted((service.get("networks") or {}).items()):
        options = given or {}
        wishes[definitions[key]["name"]] = {
            "key": key,
            "aliases": list(options.get("aliases") or []),
            "ipv4": options.get("ipv4_address") or "",
            "ipv6": options.get("ipv6_address") or "",
            "mac": mac_address(options.get("mac_address") or ""),
            "interface_name": options.get("interface_name") or "",
            "gw_priority": int(options.get("gw_priority") or 0),
            "priority": int(options.get("priority") or 0),
            "link_local": list(options.get("link_local_ips") or []),
        }
    mac = mac_address(service.get("mac_address") or "")
    if mac and wishes and not any(wish["mac"] for wish in wishes.values()):
        # Compose: the service's own address goes to its main network.
        main = max(wishes.values(), key=lambda wish: wish["priority"])
        main["mac"] = mac
    return wishes


def mac_address(text: str) -> str:
    """With colons, as the kernel takes it. Raises ``ValueError``."""
    spelled = text.replace("-", ":").lower()
    if text and not re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", spelled):
        raise ValueError(f"`mac_address: {text}` is not six pairs of hexadecimal digits, as 02:42:ac:11:00:03")
    if text and int(spelled[:2], 16) & 1:
        raise ValueError(f"`mac_address: {text}` is a multicast address: its first pair must be even")
    return spelled


def endpoint_specs(wishes: Mapping[str, Mapping[str, Any]]) -> list[types.EndpointSpec]:
    return [
        types.EndpointSpec(
            network=name,
            ipv4=wish["ipv4"],
            ipv6=wish["ipv6"],
            mac=wish["mac"],
            interface_name=wish["interface_name"],
            gw_priority=wish["gw_priority"],
            priority=wish["priority"],
            link_local=tuple(wish.get("link_local") or ()),
        )
        for name, wish in sorted(wishes.items())
    ]


def links(service: Service) -> dict[str, str]:
    """Alias -> service, from ``["db", "db:database"]``, or a container of any project that shares a network."""
    found = {}
    for link in (*(service.get("external_links") or ()), *(service.get("links") or ())):
        name, _, alias = link.partition(":")
        found[alias or name] = name
    return found
