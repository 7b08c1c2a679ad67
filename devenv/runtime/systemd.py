"""What is asked of systemd over a bus: transient scopes, and what they may use (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from devenv import errors
from devenv.linux import dbus
from devenv.runtime import devicerules, resources, schedule
from devenv.runtime import limits as limits_table

_NAME = "org.freedesktop.systemd1"
_MANAGER = (_NAME, "/org/freedesktop/systemd1", f"{_NAME}.Manager")
NO_LIMIT = (1 << 64) - 1
_TEN_MILLISECONDS = 10000

Properties = list[tuple[str, dbus.Variant]]


def start_scope(bus: dbus.Bus, name: str, properties: Properties) -> None:
    """Returns when it is there. Raises ``OSError``, for one of that name a ``dbus.BusError``: see ``exists``."""
    job = _job(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", properties, [])
    result = _result(bus, job)
    if result != "done":
        raise OSError(5, f"`{name}`: {result}")


def exists(exc: dbus.BusError) -> bool:
    return exc.name == f"{_NAME}.UnitExists"


def attach(bus: dbus.Bus, name: str, pid: int) -> None:
    bus.call(*_MANAGER, "AttachProcessesToUnit", "ssau", name, "", [pid])


def stop(bus: dbus.Bus, name: str) -> None:
    """And forget it, whatever became of it. One that isn't there is no error."""
    try:
        _result(bus, _job(bus, "StopUnit", "ss", name, "replace"))
    except dbus.BusError as exc:
        if exc.name != f"{_NAME}.NoSuchUnit":
            raise
    forget(bus, name)


def forget(bus: dbus.Bus, name: str) -> None:
    """A unit that has failed stays known, and in the way of another of its name."""
    try:
        bus.call(*_MANAGER, "ResetFailedUnit", "s", name)
    except dbus.BusError:
        pass  # it did not fail, or is gone


def change(bus: dbus.Bus, name: str, properties: Properties) -> None:
    """Until the unit ends."""
    bus.call(*_MANAGER, "SetUnitProperties", "sba(sv)", name, True, properties)


def cgroup_of(bus: dbus.Bus, name: str) -> str:
    """Its path, from the hierarchies' root."""
    [path] = bus.call(*_MANAGER, "GetUnit", "s", name)
    [found] = bus.call(_NAME, path, "org.freedesktop.DBus.Properties", "Get", "ss", f"{_NAME}.Scope", "ControlGroup")
    return str(found.value)


def _job(bus: dbus.Bus, member: str, signature: str, *values: Any) -> str:
    # First, or its end might be missed.
    bus.subscribe(f"type='signal',interface='{_NAME}.Manager',member='JobRemoved'")
    [job] = bus.call(*_MANAGER, member, signature, *values)
    return str(job)


def _result(bus: dbus.Bus, job: str) -> str:
    for signal in bus.signals():
        if signal.member == "JobRemoved" and len(signal.body) == 4 and signal.body[1] == job:
            return str(signal.body[3])
    raise TimeoutError(110, "systemd doesn't answer")


# -- limits, as it knows them ------------------------------------------------------------------------------------------


def limits(given: Mapping[str, Any], *, version: int) -> Properties:
    """``linux.resources``. What systemd isn't told it may set back to its own idea, at any `daemon-reload`.

    Raises ``ContainerError`` as ``runtime.limits`` does.
    """
    memory, cpu, pids = (given.get(name) or {} for name in ("memory", "cpu", "pids"))
    found = _memory(memory, version) + _cpu(cpu, version)
    if pids.get("limit") is not None:
        found.append(("TasksMax", _number(-1 if pids["limit"] < 0 else max(pids["limit"], 1))))
    weight = (given.get("blockIO") or {}).get("weight")
    if weight:
        value = limits_table.io_weight(weight) if version == 2 else weight
        found.append(("IOWeight" if version == 2 else "BlockIOWeight", _number(value)))
    return found


def _memory(memory: Mapping[str, Any], version: int) -> Properties:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    found: Properties = []
    if limit:
        found.append(("MemoryMax" if version == 2 else "MemoryLimit", _number(limit)))
    if version == 2 and memory.get("reservation"):
        found.append(("MemoryLow", _number(memory["reservation"])))
    if version == 2 and swap:
        found.append(("MemorySwapMax", _number(swap if swap < 0 else swap - limit)))
    return found


def _cpu(cpu: Mapping[str, Any], version: int) -> Properties:
    found: Properties = []
    if cpu.get("shares"):
        value = resources.shares_to_weight(cpu["shares"]) if version == 2 else cpu["shares"]
        found.append(("CPUWeight" if version == 2 else "CPUShares", _number(value)))
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    if quota:
        # In whole steps, as systemd would cut it down to.
        each = quota * 1000000 // (period or 100000)
        rounded = -(-each // _TEN_MILLISECONDS) * _TEN_MILLISECONDS
        found.append(("CPUQuotaPerSecUSec", _number(rounded if quota > 0 else -1)))
    if period:
        found.append(("CPUQuotaPeriodUSec", _number(period)))
    if version == 2:
        for field, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
            if cpu.get(field):
                found.append((name, dbus.Variant("ay", _bits(schedule.cpus(cpu[field])))))
    return found


def _number(value: int) -> dbus.Variant:
    return dbus.Variant("t", NO_LIMIT if value < 0 else value)


def _bits(numbers: set[int]) -> list[int]:
    found = bytearray(max(numbers) // 8 + 1)
    for number in numbers:
        found[number // 8] |= 1 << number % 8
    return list(found)


def devices(rules: list[devicerules.Rule]) -> Properties:
    """The same as ``cgroup.restrict`` sets, in words that only know what is allowed."""
    allowed, exceptions = devicerules.settle(rules)
    if allowed:
        return [("DevicePolicy", dbus.Variant("s", "auto")), ("DeviceAllow", dbus.Variant("a(ss)", []))]
    names = _device_names()
    found = []
    for (kind, major, minor), mask in exceptions.items():
        access = "".join(letter for letter, bit in (("r", 2), ("w", 4), ("m", 1)) if mask & bit)
        folder = "block" if kind == "b" else "char"
        if major is None:
            found.append((f"{folder}-*", access))
        elif minor is not None:
            found.append((f"/dev/{folder}/{major}:{minor}", access))
        elif (kind, major) in names:
            found.append((f"{folder}-{names[kind, major]}", access))
    return [("DevicePolicy", dbus.Variant("s", "strict")), ("DeviceAllow", dbus.Variant("a(ss)", found))]


def _device_names() -> dict[tuple[str, int], str]:
    """Kind and major number -> the driver's name, by which systemd knows all devices of one."""
    found: dict[tuple[str, int], str] = {}
    kind = "c"
    with open("/proc/devices") as file:
        for line in file:
            number, _, name = line.strip().partition(" ")
            if number.isdecimal():
                found.setdefault((kind, int(number)), name)
            elif line.startswith("Block"):
                kind = "b"
    return found


def connect(*, user: bool) -> dbus.Bus:
    """To the bus of the system's manager or of the user's. Raises ``HostError`` where there is none."""
    address = dbus.session_address() if user else dbus.system_address()
    whose = "the user's" if user else "the system's"
    hint = "use `--cgroup-manager=cgroupfs`, which podman has, too"
    if address is None:
        raise errors.HostError(f"there is no bus to ask {whose} systemd for a cgroup: {_why()}", hint=hint)
    try:
        return dbus.Bus(address, seconds=60)
    except OSError as exc:
        raise errors.HostError(
            f"{whose} systemd can't be asked for a cgroup: {exc.strerror}: {_why()}", hint=hint
        ) from exc


def _why() -> str:
    try:
        with open("/proc/1/comm") as file:
            first = file.read().strip()
    except OSError:
        first = "unknown"
    if os.path.isdir("/run/systemd/system"):
        return "is dbus running?"
    return f"this machine wasn't booted with systemd (PID 1 is `{first}`)"
