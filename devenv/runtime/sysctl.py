"""Which kernel settings a container may have: those of a namespace of its own; all others would change the host's.

CVE-2022-0811: `kernel.core_pattern` in a container's specification ran a program as the host's root.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_IPC = frozenset(f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split())
_LONGEST = 4096


def dotted(name: str) -> str:
    """sysctl(8): with a slash for the first separator, dots are part of names (`net/ipv4/conf/eno2.100/…`)."""
    first = next((letter for letter in name if letter in "./"), ".")
    return name.translate(str.maketrans("./", "/.")) if first == "/" else name


def path(name: str) -> str:
    """Beneath /proc/sys."""
    return dotted(name).translate(str.maketrans("./", "/."))


def refusal(name: str, value: Any, own: Collection[str]) -> str | None:
    """Why it can't be, if it can't; ``own`` names the kinds of namespaces that are not the host's."""
    plain = dotted(name)
    if not isinstance(value, str | int) or any(part in {"", "/", "//"} for part in plain.split(".")):
        return f"sysctl `{name}` is malformed"
    if len(name) + len(str(value)) > _LONGEST or not f"{name}{value}".replace("\t", " ").isprintable():
        return f"sysctl `{name[:100]}` is malformed"
    if plain in _IPC or plain.startswith("fs.mqueue."):
        return None if "ipc" in own else f"sysctl `{name}` is not allowed in the hosts ipc namespace"
    if plain.startswith("net."):
        return None if "network" in own else f"sysctl `{name}` not allowed in host network namespace"
    if plain == "kernel.domainname" and "uts" in own:
        return None
    if plain == "kernel.hostname" and "uts" in own:
        return f"sysctl `{name}` is not allowed as it conflicts with the OCI `hostname` field"
    if plain.startswith("user."):
        return None if "user" in own else f"setting `{name}` without a user namespace is not allowed"
    return f"sysctl `{name}` is not in a separate kernel namespace"
