"""How a container's process is to be run by the kernel: scheduler, priorities, processors, memory nodes, personality.

Pure tables of the specification's names, and one function for each field of ``process`` and ``linux`` that has them.
"""

from __future__ import annotations

import os
from typing import Any

from devenv import errors
from devenv.linux import process as linux_process

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_LEAST, _MOST = 1 << 10, 1 << 63  # nanoseconds, for SCHED_DEADLINE
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}


def check(process: dict[str, Any], linux: dict[str, Any]) -> None:
    """Raises ``ContainerError`` for names and combinations that don't exist."""
    scheduler = process.get("scheduler")
    if scheduler:
        _known(scheduler.get("policy"), POLICIES, "scheduler policy")
        for flag in scheduler.get("flags") or []:
            _known(flag, _SCHEDULER_FLAGS, "scheduler flag")
        policy = scheduler["policy"]
        if policy in {"SCHED_OTHER", "SCHED_BATCH"} and not -20 <= (scheduler.get("nice") or 0) <= 19:
            raise errors.ContainerError(f"invalid scheduler.nice: {scheduler['nice']}", hint="it goes from -20 to 19")
        if scheduler.get("priority") and policy not in {"SCHED_FIFO", "SCHED_RR"}:
            raise errors.ContainerError("scheduler.priority can only be specified for SCHED_FIFO or SCHED_RR policy")
        timed = any(scheduler.get(name) for name in ("runtime", "deadline", "period"))
        if timed and policy != "SCHED_DEADLINE":
            raise errors.ContainerError("scheduler runtime/deadline/period can only be specified for SCHED_DEADLINE")
        if policy == "SCHED_DEADLINE":
            _check_deadline(scheduler)
    priority = process.get("ioPriority")
    if priority:
        _known(priority.get("class"), IO_CLASSES, "ioPriority class")
        if not 0 <= (priority.get("priority") or 0) <= 7:
            raise errors.ContainerError(
                f"invalid ioPriority.priority: {priority['priority']}", hint="it goes from 0 to 7"
            )
    for name in ("initial", "final"):
        cpus((process.get("execCPUAffinity") or {}).get(name) or "")
    if linux.get("personality"):
        _known(linux["personality"].get("domain"), _PERSONALITIES, "personality domain")
        if linux["personality"].get("flags"):
            raise errors.ContainerError("flags of a personality are not supported: the specification defines none")
    if linux.get("memoryPolicy") is not None:
        _check_memory(linux["memoryPolicy"])


def _check_deadline(scheduler: dict[str, Any]) -> None:
    """What the kernel wants of the three (sched(7)), which answers all of it with EINVAL."""
    what = "sched_setattr: `SCHED_DEADLINE`"
    for name in ("runtime", "deadline"):
        if scheduler.get(name) is None:
            raise errors.ContainerError(f"{what} requires `{name}`")
        if scheduler[name] <= 0:
            raise errors.ContainerError(f"{what} {name} must be greater than 0")
    runtime, deadline, period = (scheduler.get(name) or 0 for name in ("runtime", "deadline", "period"))
    for (name, value), (other, most) in (
        (("runtime", runtime), ("deadline", deadline)),
        (("deadline", deadline), ("period", period or deadline)),
    ):
        if value > most:
            raise errors.ContainerError(f"{what} {name} ({value}) must be <= {other} ({most})")
        if not _LEAST <= value < _MOST:
            raise errors.ContainerError(f"{what} {name} ({value}) must be between {_LEAST} and {_MOST - 1}")


def _check_memory(policy: dict[str, Any]) -> None:
    mode = policy.get("mode")
    _known(mode, MEMORY_MODES, "memory policy mode")
    for flag in policy.get("flags") or []:
        _known(flag, MEMORY_FLAGS, "memory policy flag")
    nodes = cpus(policy.get("nodes") or "")
    if mode in {"MPOL_DEFAULT", "MPOL_LOCAL"} and (nodes or policy.get("flags")):
        raise errors.ContainerError(f"memory policy {mode} takes neither nodes nor flags")
    if mode not in {"MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"} and not nodes:
        raise errors.ContainerError(f"memory policy {mode} needs nodes")


def _known(value: object, table: dict[str, int], what: str) -> None:
    if value not in table:
        raise errors.ContainerError(f"invalid {what}: `{value}`", hint=f"one of {', '.join(table)}")


def cpus(text: str) -> set[int]:
    """``0-3,7``. Raises ``ContainerError``."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) > 65535:
            raise errors.ContainerError(f"`{text}` is no list of processors or nodes", hint="write it as `0-3,7`")
        if int(last or first) < int(first):
            raise errors.ContainerError(f"`{text}` is no list of processors or nodes: `{part}` goes backwards")
        found.update(range(int(first), int(last or first) + 1))
    return found


def apply(process: dict[str, Any], linux: dict[str, Any]) -> None:
    """In the process itself, while it still has the host's rights. Raises ``OSError``."""
    scheduler = process.get("scheduler")
    if scheduler:
        linux_process.sched_setattr(
            policy=POLICIES[scheduler["policy"]],
            flags=sum(_SCHEDULER_FLAGS[name] for name in scheduler.get("flags") or ()),
            **{name: scheduler.get(name) or 0 for name in ("nice", "priority", "runtime", "deadline", "period")},
        )
    priority = process.get("ioPriority")
    if priority:
        linux_process.ioprio_set(
            linux_process.IOPRIO_WHO_PROCESS, 0, IO_CLASSES[priority["class"]] << 13 | (priority.get("priority") or 0)
        )
    if linux.get("personality"):
        linux_process.personality(_PERSONALITIES[linux["personality"]["domain"]])
    policy = linux.get("memoryPolicy")
    if policy:
        flags = sum(MEMORY_FLAGS[name] for name in policy.get("flags") or ())
        nodes = sum(1 << node for node in cpus(policy.get("nodes") or ""))
        linux_process.set_mempolicy(MEMORY_MODES[policy["mode"]] | flags, nodes)


def set_affinity(process: dict[str, Any], name: str) -> None:
    """``execCPUAffinity``: ``initial`` before the container's cgroup is joined, ``final`` after it."""
    wanted = cpus((process.get("execCPUAffinity") or {}).get(name) or "")
    if wanted:
        os.sched_setaffinity(0, wanted)


def reset_affinity() -> None:
    """To all processors of the cgroup that was just joined: since Linux 6.2 what the caller was held to would stay."""
    os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))
