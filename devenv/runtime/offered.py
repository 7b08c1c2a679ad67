"""Limits that the kernel itself may lack though their controller is there: weights of disks, swap that isn't counted.

Which files a cgroup has depends on how the kernel was built and booted. What is lacking is left out of a service's
limits and said, as Docker does. The OCI commands fail instead, as other OCI runtimes do.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Collection, Iterable
from typing import NamedTuple

from devenv.runtime import cgroup, resources


class Limit(NamedTuple):
    attribute: str  # of a service
    v1: tuple[str, ...]  # each of these files does
    v2: tuple[str, ...]  # without any: this version has no such limit at all
    field: str  # of Resources
    part: str = ""  # of its block_io


_QUOTA = (("cpu.cfs_quota_us",), ("cpu.max",))
_LIMITS = (
    Limit("cpus", *_QUOTA, "nano_cpus"),
    Limit("cpu_quota", *_QUOTA, "cpu_quota"),
    Limit("cpu_period", *_QUOTA, "cpu_period"),
    Limit("memswap_limit", ("memory.memsw.limit_in_bytes",), ("memory.swap.max",), "memory_swap"),
    Limit("mem_swappiness", ("memory.swappiness",), (), "memory_swappiness"),
    Limit("oom_kill_disable", ("memory.oom_control",), (), "oom_kill_disable"),
    Limit("blkio_config: weight", ("blkio.weight", "blkio.bfq.weight"), ("io.weight",), "block_io", "weight"),
    Limit(
        "blkio_config: weight_device",
        ("blkio.weight_device", "blkio.bfq.weight_device"),
        ("io.bfq.weight",),
        "block_io",
        "weightDevice",
    ),
    *(
        Limit(f"blkio_config: {name}", (f"blkio.throttle.{file}_device",), ("io.max",), "block_io", part)
        for name, file, part in (
            ("device_read_bps", "read_bps", "throttleReadBpsDevice"),
            ("device_write_bps", "write_bps", "throttleWriteBpsDevice"),
            ("device_read_iops", "read_iops", "throttleReadIOPSDevice"),
            ("device_write_iops", "write_iops", "throttleWriteIOPSDevice"),
        )
    ),
)


@functools.cache
def files() -> frozenset[str]:
    """Names of those that a cgroup of a container has. Tried: the one at the top lacks some (CFTYPE_NOT_ON_ROOT)."""
    path = f"devenv.offered.{os.urandom(4).hex()}"
    group = cgroup.create(path, {}, rules=[])
    try:
        return frozenset(name for folder in cgroup.folders(path) for name in os.listdir(folder))
    finally:
        cgroup.discard(group.made)


def processors() -> set[int]:
    """Those that a container may be bound to: the ones that are on, and that were left to us."""
    here = cgroup.place()
    base = here.hierarchies.get("cpuset" if here.version == 1 else "")
    for file in (f"{base}/cpuset.cpus.effective", f"{base}/cpuset.effective_cpus", "/sys/devices/system/cpu/online"):
        with contextlib.suppress(OSError), open(file) as text:
            if found := resources.numbers(text.read().strip()):
                return found
    return os.sched_getaffinity(0)


def lacking(limits: resources.Resources) -> dict[Limit, str]:
    """Those of ``limits`` that can't be set on this machine, and why."""
    wanted = [each for each in _LIMITS if _given(limits, each)]
    return _lacking(wanted, files(), cgroup.place().version) if wanted else {}


def _lacking(wanted: Iterable[Limit], there: Collection[str], version: int) -> dict[Limit, str]:
    found = {}
    for each in wanted:
        names = each.v1 if version == 1 else each.v2
        if not names:
            found[each] = "with cgroup v2"
        elif not set(names) & set(there):
            found[each] = f"on this kernel, which has no `{names[0]}`"
    return found


def _given(limits: resources.Resources, limit: Limit) -> bool:
    value = limits.block_io.get(limit.part) if limit.part else getattr(limits, limit.field)
    return value is not None and value is not False


def without(limits: resources.Resources, lost: Iterable[Limit]) -> resources.Resources:
    fields = limits._asdict()
    for each in lost:
        if each.part:
            fields[each.field] = {name: value for name, value in fields[each.field].items() if name != each.part}
        else:
            fields[each.field] = resources.Resources._field_defaults[each.field]
    return resources.Resources(**fields)
