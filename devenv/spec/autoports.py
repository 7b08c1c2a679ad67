"""`ports: auto`: host ports that each checkout of a project has for itself. Pure; the loader asks who allots them.

    ports: auto                       at the top, or in `x-devenv:`; `strict`, the default, takes what is written
    services:
      web: {ports: ["8080:80"]}       8080 where it is free, another one that stays the same where it isn't
      app: {environment: {URL: "http://localhost:${DEVENV_PORT_web_80}"}}

A port that is given as one number, or not given at all, is allotted; a range chooses for itself, and so do replicas.
The variables stand for fixed ports with `strict`, too; with `auto` each service has its own in its environment. Where
the spec says nothing, DEVENV_PORTS does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

PREFIX = "DEVENV_PORT_"


class Wish(NamedTuple):
    service: str
    position: int  # in the service's ports
    target: int
    protocol: str
    host_ip: str
    published: int  # 0 for any

    @property
    def variable(self) -> str:
        suffix = "" if self.protocol == "tcp" else f"_{self.protocol}"
        return f"{PREFIX}{re.sub('[^A-Za-z0-9]', '_', self.service)}_{self.target}{suffix}"


Chosen = Mapping[Wish, int]


def is_auto(spec: Mapping[str, Any], default: str) -> bool:
    return ((spec.get("x-devenv") or {}).get("ports") or spec.get("ports") or default) == "auto"


def wishes(spec: Mapping[str, Any]) -> Iterator[Wish]:
    """What can be allotted, in the order of names. ``spec`` is canonical."""
    for name, service in sorted((spec.get("services") or {}).items()):
        if service.get("network_mode") == "host" or _replicas(service) > 1:
            continue
        for position, port in enumerate(service.get("ports") or []):
            target, published = str(port.get("target") or ""), str(port.get("published") or "0")
            if target.isdecimal() and published.isdecimal():
                protocol, host_ip = str(port.get("protocol") or "tcp"), str(port.get("host_ip") or "")
                yield Wish(name, position, int(target), protocol, host_ip, int(published))


def _replicas(service: Mapping[str, Any]) -> int:
    return int(service.get("scale") or (service.get("deploy") or {}).get("replicas") or 1)


def variables(chosen: Chosen) -> dict[str, str]:
    """Of several ports that lead to one, the first."""
    found: dict[str, str] = {}
    for wish, port in chosen.items():
        if port:
            found.setdefault(wish.variable, str(port))
    return found


def settle(spec: Mapping[str, Any], chosen: Chosen) -> None:
    """Write what was allotted into the canonical spec."""
    for wish, port in chosen.items():
        service = spec["services"].get(wish.service)
        if service is not None and port:
            service["ports"][wish.position]["published"] = str(port)
            environment = service["environment"] = service.get("environment") or {}
            environment.setdefault(wish.variable, str(port))


def notes(chosen: Chosen) -> list[str]:
    return [
        f"service `{wish.service}`: port {wish.published} is not free for this checkout, "
        f"{wish.target}/{wish.protocol} is published at {port}"
        for wish, port in chosen.items()
        if wish.published not in (0, port)
    ]
