"""``linux.resources`` of the OCI runtime specification as files of cgroup v1 and v2. Pure.

v2 has other units and other names for most: memory and swap apart, weights instead of shares (runtime-spec,
config-linux.md, and the conversions of the kernel's own documentation). What v2 has no word for is left out, as other
runtimes do: kernel memory, swappiness, realtime scheduling, traffic classes.
"""

from __future__ import annotations

from typing import Any

from devenv import errors
from devenv.runtime import resources

Values = list[tuple[str, str]]

# A value that stands for what the cgroup above has.
INHERIT = ""

_THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
)


def v1(limits: dict[str, Any]) -> dict[str, Values]:
    """Controller -> files and values, in the order to write them. Devices are told by ``devicerules``."""
    if limits.get("unified"):
        raise errors.ContainerError(
            "invalid configuration: `unified` resources need cgroup v2, and this machine has v1",
            hint="give the limit in `linux.resources`",
        )
    memory, cpu, pids = (limits.get(name) or {} for name in ("memory", "cpu", "pids"))
    found: dict[str, Values] = {
        "memory": _given(
            ("memory.use_hierarchy", 1 if memory.get("useHierarchy") else None),
            ("memory.limit_in_bytes", memory.get("limit") or None),
            ("memory.memsw.limit_in_bytes", memory.get("swap") or None),
            ("memory.soft_limit_in_bytes", memory.get("reservation") or None),
            ("memory.kmem.tcp.limit_in_bytes", memory.get("kernelTCP") or None),
            ("memory.swappiness", memory.get("swappiness")),
            ("memory.oom_control", 1 if memory.get("disableOOMKiller") else None),
        ),
        "cpu": _given(
            ("cpu.rt_period_us", cpu.get("realtimePeriod") or None),
            ("cpu.rt_runtime_us", cpu.get("realtimeRuntime") or None),
            ("cpu.shares", cpu.get("shares") or None),
            ("cpu.cfs_period_us", cpu.get("period") or None),
            ("cpu.cfs_quota_us", cpu.get("quota") or None),
            ("cpu.cfs_burst_us", cpu.get("burst")),
            ("cpu.idle", cpu.get("idle")),
        ),
        "cpuset": _given(("cpuset.cpus", cpu.get("cpus") or None), ("cpuset.mems", cpu.get("mems") or None)),
        "pids": [("pids.max", _pids(pids["limit"]))] if pids.get("limit") is not None else [],
        "blkio": _blkio(limits.get("blockIO") or {}),
        "hugetlb": [
            (f"hugetlb.{each['pageSize']}.limit_in_bytes", str(each["limit"]))
            for each in limits.get("hugepageLimits") or []
        ],
        "rdma": _rdma(limits.get("rdma") or {}),
    }
    network = limits.get("network") or {}
    found["net_cls"] = _given(("net_cls.classid", network.get("classID") or None))
    found["net_prio"] = [
        ("net_prio.ifpriomap", f"{each['name']} {each['priority']}") for each in network.get("priorities") or []
    ]
    return {name: values for name, values in found.items() if values}


def v2(limits: dict[str, Any]) -> Values:
    cpu, pids = limits.get("cpu") or {}, limits.get("pids") or {}
    values = _memory_v2(limits.get("memory") or {})
    if cpu.get("quota") or cpu.get("period"):
        values.append(("cpu.max", f"{_or_max(cpu.get('quota') or -1)} {cpu.get('period') or 100000}"))
    if cpu.get("shares"):
        values.append(("cpu.weight", str(resources.shares_to_weight(cpu["shares"]))))
    values += _given(
        ("cpu.max.burst", cpu.get("burst")),
        ("cpu.idle", cpu.get("idle")),
        ("cpuset.cpus", cpu.get("cpus") or None),
        ("cpuset.mems", cpu.get("mems") or None),
    )
    if pids.get("limit") is not None:
        values.append(("pids.max", _pids(pids["limit"])))
    values += _io(limits.get("blockIO") or {})
    for each in limits.get("hugepageLimits") or []:
        values.append((f"hugetlb.{each['pageSize']}.max", str(each["limit"])))
    values += _rdma(limits.get("rdma") or {})
    for name, value in sorted((limits.get("unified") or {}).items()):
        if "/" in name or "." not in name or name.startswith("cgroup."):
            raise errors.ContainerError(f"`{name}` is no limit of cgroup v2")
        values.append((name, str(value)))
    return values


# Kind and field -> what stands in a cgroup that was never given this limit: v1's controller and v1's and v2's files.
_UNSET: dict[tuple[str, str], tuple[str, tuple[str, str] | None, tuple[str, str] | None]] = {
    ("memory", "limit"): ("memory", ("memory.limit_in_bytes", "-1"), ("memory.max", "max")),
    ("memory", "swap"): ("memory", ("memory.memsw.limit_in_bytes", "-1"), ("memory.swap.max", "max")),
    ("memory", "reservation"): ("memory", ("memory.soft_limit_in_bytes", "-1"), ("memory.low", "0")),
    ("memory", "swappiness"): ("memory", ("memory.swappiness", "60"), None),
    ("cpu", "period"): ("cpu", ("cpu.cfs_period_us", "100000"), ("cpu.max", "max 100000")),
    ("cpu", "quota"): ("cpu", ("cpu.cfs_quota_us", "-1"), ("cpu.max", "max 100000")),
    ("cpu", "shares"): ("cpu", ("cpu.shares", "1024"), ("cpu.weight", "100")),
    ("cpu", "cpus"): ("cpuset", ("cpuset.cpus", INHERIT), ("cpuset.cpus", INHERIT)),
    ("blockIO", "weight"): ("blkio", ("blkio.weight", "500"), ("io.weight", "100")),
}


def unset_v1(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Values]:
    """Controller -> what takes back the limits that are no more."""
    found: dict[str, Values] = {}
    for kind, field in _gone(before, after):
        controller, value, _ = _UNSET[kind, field]
        found.setdefault(controller, []).extend([value] if value else [])
    for _, file, number in _unthrottled(before, after):
        found.setdefault("blkio", []).append((file, f"{number} 0"))
    return found


def unset_v2(before: dict[str, Any], after: dict[str, Any]) -> Values:
    values = [file for kind, field in _gone(before, after) if (file := _UNSET[kind, field][2])]
    return values + [("io.max", f"{number} {word}=max") for word, _, number in _unthrottled(before, after)]


def _gone(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (kind, field)
        for kind, field in _UNSET
        if (before.get(kind) or {}).get(field) and not (after.get(kind) or {}).get(field)
    ]


def _unthrottled(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    """v2's word, v1's file and the device of each throttle that is no more."""
    found = []
    for field, file, word in _THROTTLES:
        old, new = (
            {f"{each['major']}:{each['minor']}" for each in (limits.get("blockIO") or {}).get(field) or []}
            for limits in (before, after)
        )
        found += [(word, file, number) for number in sorted(old - new)]
    return found


def _given(*pairs: tuple[str, Any]) -> Values:
    return [(file, str(value)) for file, value in pairs if value is not None]


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _pids(limit: int) -> str:
    # Nothing at all could run with 0, and systemd doesn't know it either.
    return str(max(limit, 1)) if limit >= 0 else "max"


def _memory_v2(memory: dict[str, Any]) -> Values:
    values: Values = []
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        values.append(("memory.max", _or_max(limit)))
    if swap:
        # v1 counts memory and swap together.
        if swap > 0 and limit <= 0:
            raise errors.ContainerError("a limit of memory and swap needs a limit of memory")
        if 0 < swap < limit:
            raise errors.ContainerError("the limit of memory and swap is below that of memory")
        values.append(("memory.swap.max", "max" if swap < 0 else str(swap - limit)))
    if memory.get("reservation"):
        values.append(("memory.low", _or_max(memory["reservation"])))
    return values


def _blkio(block: dict[str, Any]) -> Values:
    values = _given(
        ("blkio.weight", block.get("weight") or None), ("blkio.leaf_weight", block.get("leafWeight") or None)
    )
    for each in block.get("weightDevice") or []:
        number = f"{each['major']}:{each['minor']}"
        values += _given(
            ("blkio.weight_device", f"{number} {each['weight']}" if each.get("weight") else None),
            ("blkio.leaf_weight_device", f"{number} {each['leafWeight']}" if each.get("leafWeight") else None),
        )
    for field, file, _ in _THROTTLES:
        for each in block.get(field) or []:
            values.append((file, f"{each['major']}:{each['minor']} {each['rate']}"))
    return values


def io_weight(weight: int) -> int:
    """10…1000 onto 1…10000."""
    return 1 + (max(weight, 10) - 10) * 9999 // 990


def _io(block: dict[str, Any]) -> Values:
    values: Values = []
    if block.get("weight"):
        values.append(("io.weight", str(io_weight(block["weight"]))))
    for each in block.get("weightDevice") or []:
        if each.get("weight"):
            values.append(("io.bfq.weight", f"{each['major']}:{each['minor']} {each['weight']}"))
    for field, _, word in _THROTTLES:
        for each in block.get(field) or []:
            values.append(("io.max", f"{each['major']}:{each['minor']} {word}={each['rate']}"))
    return values


def _rdma(devices: dict[str, Any]) -> Values:
    values: Values = []
    for name, each in sorted(devices.items()):
        parts = [
            f"{word}={each[field]}"
            for field, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if each.get(field) is not None
        ]
        values.append(("rdma.max", " ".join([name, *parts])))
    return values
