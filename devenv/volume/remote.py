"""A server's address in the options of a network filesystem: the kernel takes numbers, people write names."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from devenv import errors


def resolved(options: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"addr={_address(each[5:])}" if each.startswith("addr=") else each for each in options)


def _address(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError as exc:
        raise errors.VolumeError(f"the server `{name}` of a volume has no address: {exc.strerror}") from exc
