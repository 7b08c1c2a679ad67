"""The user namespaces of a project's containers, each made once and kept while anything may be in it.

Containers with the same range of ids share one: then what belongs to one of them (a network, an ipc namespace) can be
shared with another, which a namespace of its own would have no rights over. The kernel keeps it as long as a process
is in it or somebody holds a descriptor; a monitor that takes over finds it again by way of a container that runs.
"""

from __future__ import annotations

import fcntl
import os
from typing import Any

from devenv.runtime import idmap, state
from devenv.util import fs


def mapping(config: dict[str, Any]) -> tuple[idmap.Mappings, idmap.Mappings] | None:
    """None for a container that is in its runtime's own user namespace."""
    linux = config.get("linux") or {}
    own = any(each["type"] == "user" and not each.get("path") for each in linux.get("namespaces") or [])
    return (linux.get("uidMappings") or [], linux.get("gidMappings") or []) if own else None


_NS_GET_PARENT = 0xB702  # ioctl_ns(2)


class Spaces:
    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def get(self, config: dict[str, Any], folder: str) -> int:
        """A descriptor that stays ours, or -1. Raises ``ContainerError`` and ``OSError``."""
        wanted = mapping(config)
        if wanted is None:
            return -1
        key = "\n".join(map(idmap.text, wanted))
        if key not in self._held:
            found = _of_a_neighbour(wanted, folder)
            self._held[key] = idmap.user_namespace(*wanted) if found is None else found
        return self._held[key]


def _of_a_neighbour(wanted: tuple[idmap.Mappings, idmap.Mappings], folder: str) -> int | None:
    """Of a container that runs already. Ranges are a project's own, so whoever has this one is of this project."""
    containers, own = os.path.split(folder)
    for name in os.listdir(containers):
        if name == own or name.startswith("."):
            continue
        found = state.load(f"{containers}/{name}")
        if found is None or not found.pid or found.status not in {"created", "running", "paused"}:
            continue
        config = fs.read_json(f"{containers}/{name}/config.json")
        if isinstance(config, dict) and mapping(config) == wanted:
            try:
                space = os.open(f"/proc/{found.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # it has just ended
            if _is_child(space):
                return space
            os.close(space)
    return None


def _is_child(space: int) -> bool:
    """Of ours: a container may have gone on into one that it made for itself."""
    try:
        parent = fcntl.ioctl(space, _NS_GET_PARENT)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(parent), os.stat("/proc/self/ns/user"))
    finally:
        os.close(parent)
