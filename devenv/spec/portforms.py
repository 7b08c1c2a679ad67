"""The short form of `ports:`, ``[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`` with ranges, to its long form."""

from __future__ import annotations

import ipaddress
from typing import Any

_PROTOCOLS = ("tcp", "udp", "sctp")


def parse(text: str) -> list[dict[str, Any]]:
    """One entry a container port, in the order compose has them. Raises ValueError."""
    parts = text.split(":")
    address, host, container = ":".join(parts[:-2]), parts[-2] if len(parts) > 1 else "", parts[-1]
    container, slash, protocol = container.partition("/")
    protocol = protocol.lower() if slash and protocol else "tcp"
    if not container:
        raise ValueError(f"`{text}` names no container port")
    if protocol not in _PROTOCOLS:
        raise ValueError(f"`{text}`: the protocol is tcp, udp or sctp, not `{protocol}`")
    address = _address(address, text)
    first, last = _range(container, text)
    published = _published(host, first, last, text)
    entries = []
    for index, target in enumerate(range(first, last + 1)):
        entry: dict[str, Any] = {"mode": "ingress", "target": target, "protocol": protocol}
        if address:
            entry["host_ip"] = address
        if published:
            entry["published"] = published[index]
        entries.append(entry)
    # The order is that of the texts "8080/tcp", as compose sorts them.
    return sorted(entries, key=lambda entry: f"{entry['target']}/{entry['protocol']}")


def _address(address: str, text: str) -> str:
    if not address:
        return ""
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not is_address(address):
        raise ValueError(f"`{text}`: `{address}` is no address; write it like 127.0.0.1 or [::1]")
    return address


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _published(host: str, first: int, last: int, text: str) -> list[str]:
    if not host:
        return []
    start, end = _range(host, text)
    if last - first == end - start:
        return [str(number) for number in range(start, end + 1)]
    if first != last:
        raise ValueError(f"`{text}`: {host} and {first}-{last} are ranges of different length")
    return [f"{start}-{end}"]


def _range(text: str, whole: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    first = _number(start, whole)
    if not dash:
        return first, first
    last = _number(end, whole)
    if last < first:
        raise ValueError(f"`{whole}`: the range {text} ends before it begins")
    return first, last


def _number(text: str, whole: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError(f"`{whole}`: `{text}` is no port number")
    if int(text) > 65535:
        raise ValueError(f"`{whole}`: {text} is no port, they end at 65535")
    return int(text)
