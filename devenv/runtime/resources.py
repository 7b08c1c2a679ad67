"""Limits, in the units of the OCI runtime specification's ``linux.resources``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Resources(NamedTuple):
    memory: int | None = None  # bytes
    memory_swap: int | None = None  # bytes of memory and swap together; -1 for no limit
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int | None = None  # a billionth of a processor
    cpu_quota: int | None = None  # microseconds a period
    cpu_period: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    pids: int | None = None
    block_io: Mapping[str, Any] = MappingProxyType({})  # as the specification's blockIO


# What has to be there to set a limit: the controller, by the name it has in both cgroup versions (cgroups(7)).
_CONTROLLERS = {
    "memory": ("memory", "memory_swap", "memory_reservation", "memory_swappiness"),
    "cpu": ("nano_cpus", "cpu_quota", "cpu_period", "cpu_shares"),
    "cpuset": ("cpuset_cpus",),
    "pids": ("pids",),
    "io": ("block_io",),
}
CONTROLLERS = tuple(_CONTROLLERS)
_MOST_PROCESSORS = 8192  # NR_CPUS of the largest kernels

KINDS = ("memory", "cpu", "pids", "blockIO")  # what `to_oci` makes


def needed(limits: Resources) -> list[str]:
    """The controllers that these limits are set with."""
    return [name for name, fields in _CONTROLLERS.items() if any(getattr(limits, field) for field in fields)]


def without(limits: Resources, controllers: Iterable[str]) -> Resources:
    """The limits that are left on a machine that lacks these controllers."""
    lost = [field for name in controllers for field in _CONTROLLERS[name]]
    return limits._replace(**{field: Resources._field_defaults[field] for field in lost})


def to_oci(limits: Resources) -> dict[str, Any]:
    memory = {
        "limit": limits.memory,
        # Docker: with a memory limit and no word of swap, as much swap again.
        "swap": limits.memory_swap
        if limits.memory_swap is not None
        else (limits.memory * 2 if limits.memory and limits.memory > 0 else None),
        "reservation": limits.memory_reservation,
        "swappiness": limits.memory_swappiness,
        "disableOOMKiller": limits.oom_kill_disable or None,
    }
    quota, period = limits.cpu_quota, limits.cpu_period
    if limits.nano_cpus:
        period = period or 100_000
        quota = limits.nano_cpus * period // 1_000_000_000
    cpu = {
        "quota": quota,
        "period": period,
        "shares": limits.cpu_shares,
        "cpus": limits.cpuset_cpus or None,
    }
    found: dict[str, Any] = {}
    for name, values in (
        ("memory", memory),
        ("cpu", cpu),
        ("pids", {"limit": limits.pids or (None if limits.pids is None else -1)}),
        ("blockIO", dict(limits.block_io)),
    ):
        given = {key: value for key, value in values.items() if value is not None}
        if given:
            found[name] = given
    return found


def shares_to_weight(shares: int) -> int:
    """cgroup v1's 2…262144 onto v2's 1…10000, as the OCI runtimes convert."""
    return 1 if shares <= 2 else min(10000, 1 + ((shares - 2) * 9999) // 262142)


def numbers(text: str) -> set[int]:
    """Of a list such as ``0-3,7`` (cpuset(7)). Raises ``ValueError``."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) >= _MOST_PROCESSORS:
            raise ValueError(f"`{text}` is no list of numbers such as `0-3,7`")
        found |= set(range(int(first), int(last or first) + 1))
    return found
