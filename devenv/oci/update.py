"""`update`: other limits for a container that is there."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.oci import checks, store
from devenv.runtime import cgroup, container

if TYPE_CHECKING:
    import argparse

    from devenv.oci.main import Context

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def update(context: Context) -> int:
    found = context.store.locked(context.given.id)
    if found.status() == store.STOPPED:
        raise errors.ContainerError("container not running")
    if not found.record.cgroup:
        raise errors.ContainerError("the container has no cgroup of its own")
    limits = _read(context.given.resources) if context.given.resources else _flags(context.given)
    config = found.config()
    before = config["linux"].get("resources") or {}
    with container.translated():
        completed, rules = _completed(limits, before), None
        if limits.get("devices"):
            rules = container.device_rules({"linux": {"resources": {"devices": limits["devices"]}}})
        if found.record.systemd:
            from devenv.oci import scope

            scope.change(found.record.systemd, scope.changes(completed, rules), user=context.rootless)
        cgroup.apply(found.record.cgroup, completed)
        if rules:
            cgroup.restrict(found.record.cgroup, rules)
    config["linux"]["resources"] = {
        name: {**(before.get(name) or {}), **value} if isinstance(value, dict) else value
        for name, value in {**before, **limits}.items()
    }
    found.keep_config(config)
    return 0


def _read(path: str) -> dict[str, Any]:
    try:
        if path == "-":
            found = json.load(sys.stdin)
        else:
            with open(path, "rb") as file:
                found = json.load(file)
    except (ValueError, RecursionError) as exc:
        raise errors.ContainerError(f"the resources: {exc}") from exc
    return checks.resources(found)


def _flags(given: argparse.Namespace) -> dict[str, Any]:
    memory = {
        "limit": _bytes(given.memory),
        "reservation": _bytes(given.memory_reservation),
        "swap": _bytes(given.memory_swap),
        "kernel": _bytes(given.kernel_memory),
        "kernelTCP": _bytes(given.kernel_memory_tcp),
    }
    cpu = {
        "period": given.cpu_period,
        "quota": given.cpu_quota,
        "burst": given.cpu_burst,
        "shares": given.cpu_share,
        "realtimePeriod": given.cpu_rt_period,
        "realtimeRuntime": given.cpu_rt_runtime,
        "idle": given.cpu_idle,
        "cpus": given.cpuset_cpus or None,
        "mems": given.cpuset_mems or None,
    }
    groups = {
        "memory": memory,
        "cpu": cpu,
        "pids": {"limit": given.pids_limit},
        "blockIO": {"weight": given.blkio_weight},
    }
    found = {}
    for name, values in groups.items():
        kept = {key: value for key, value in values.items() if value is not None}
        if kept:
            found[name] = kept
    return found


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    number, unit = text.strip().lower().removesuffix("b").removesuffix("i"), 1
    if number[-1:] in _UNITS:
        number, unit = number[:-1], _UNITS[number[-1]]
    try:
        return int(number) * unit
    except ValueError as exc:
        raise errors.UsageError(f"`{text}` is no number of bytes", hint="a number, or one with k, m or g") from exc


def _completed(limits: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Some limits are one file on v2, or bound to one another: what isn't given stays as it is."""
    found = dict(limits)
    for name, pairs in (("memory", ("limit", "swap")), ("cpu", ("quota", "period"))):
        values = dict(limits.get(name) or {})
        earlier = before.get(name) or {}
        if name == "memory" and cgroup.place().version == 2 and "swap" in values and "limit" not in values:
            values["limit"] = earlier.get("limit") or 0
        if name == "cpu" and cgroup.place().version == 2 and values.keys() & set(pairs):
            values = {key: earlier[key] for key in pairs if earlier.get(key)} | values
        if name == "memory" and values.get("limit") == -1 and "swap" not in values:
            # Without a limit on memory, one on memory and swap would be below it.
            values["swap"] = -1
        if values:
            found[name] = values
    return found
