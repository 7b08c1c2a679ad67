"""``linux.netDevices``: interfaces of the host that move into a container's network namespace (runtime-spec 1.3).

An interface loses its addresses when it moves and is down afterwards: those of global scope are set again, and it is
brought up. It comes back when the namespace ends, if it is a physical one; the kernel deletes virtual ones.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from devenv import errors
from devenv.linux import namespace, rtnetlink

_GLOBAL = 0  # RT_SCOPE_UNIVERSE


def give(wanted: dict[str, Any], pid: int) -> None:
    """``wanted``: name here -> {"name": name there}. Raises ``ContainerError``."""
    target = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for name, entry in wanted.items():
            there = (entry or {}).get("name") or name
            try:
                _move(name, there, target=target, own=own)
            except OSError as exc:
                raise errors.ContainerError(f"network device `{name}` can't be moved: {exc.strerror or exc}") from exc
    finally:
        os.close(target)
        os.close(own)


def _move(name: str, there: str, *, target: int, own: int) -> None:
    index = socket.if_nametoindex(name)
    kept = [each for each in rtnetlink.addresses(index) if each.scope == _GLOBAL and each.permanent]
    rtnetlink.set_link(index, name=there, namespace=target)
    namespace.setns(target, namespace.CLONE_NEWNET)
    try:
        moved = socket.if_nametoindex(there)
        for address in kept:
            rtnetlink.add_address(address, moved)
        rtnetlink.set_link(moved, up=True)
    finally:
        namespace.setns(own, namespace.CLONE_NEWNET)
