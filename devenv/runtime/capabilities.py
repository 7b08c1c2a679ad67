"""capabilities(7): names, numbers, and what a container gets (Docker's fourteen)."""

from __future__ import annotations

from collections.abc import Iterable

from devenv import errors

NAMES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP "
    "CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER "
    "CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT "
    "CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE "
    "CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND "
    "CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
).split()
_NUMBERS = {name: number for number, name in enumerate(NAMES)}

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)


def last() -> int:
    """The highest one that the kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


def select(add: Iterable[str], drop: Iterable[str], *, privileged: bool) -> tuple[str, ...]:
    """The names a container gets, in the order of their numbers. Raises ``ContainerError`` for an unknown one."""
    added, dropped = [_name(name) for name in add], [_name(name) for name in drop]
    chosen = set(NAMES if privileged or "ALL" in added else () if "ALL" in dropped else DEFAULT)
    if "ALL" not in dropped:
        chosen.difference_update(dropped)
    elif "ALL" in added:
        chosen = set(NAMES)
    chosen.update(name for name in added if name != "ALL")
    return tuple(name for name in NAMES if name in chosen)


def _name(text: str) -> str:
    name = text.upper()
    if name != "ALL" and not name.startswith("CAP_"):
        name = f"CAP_{name}"
    if name != "ALL" and name not in _NUMBERS:
        raise errors.ContainerError(f"`{text}` is not a capability", hint="see capabilities(7) for their names")
    return name


def mask(names: Iterable[str]) -> int:
    """What this kernel has no number for is left out: ``unknown`` tells of it."""
    found = 0
    for name in names:
        found |= 1 << _NUMBERS[name] if name in _NUMBERS else 0
    return found


def unknown(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in _NUMBERS]
