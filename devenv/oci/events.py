"""`events`: what a container uses, once or again and again, and when the kernel killed something of it for memory."""

from __future__ import annotations

import json
import os
import re
import select
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.oci import store
from devenv.runtime import cgroup, usage

if TYPE_CHECKING:
    from devenv.oci.main import Context

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def follow(context: Context) -> int:
    """Until the container's end."""
    found = context.store.get(context.given.id)
    if found.status() == store.STOPPED:
        raise errors.ContainerError("container not running")
    if not found.record.cgroup:
        raise errors.ContainerError("the container has no cgroup of its own: nothing is counted")
    if context.given.stats:
        _say("stats", found, _measured(found))
        return 0
    interval = seconds(context.given.interval)
    try:
        pidfd = os.pidfd_open(found.record.pid)
    except ProcessLookupError:
        return 0
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    killed = cgroup.oom_kills(found.record.cgroup)
    while not ended.poll(interval * 1000):
        now = cgroup.oom_kills(found.record.cgroup)
        for _ in range(now - killed):
            _say("oom", found, None)
        killed = now
        _say("stats", found, _measured(found))
    return 0


def seconds(text: str) -> float:
    """``5s``, ``100ms``, ``1m30s``. Raises ``UsageError``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    found = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or found <= 0:
        raise errors.UsageError(f"`{text}` is no duration above zero", hint="as `5s` or `100ms`")
    return found


def _say(kind: str, found: store.Container, data: dict[str, Any] | None) -> None:
    event = {"type": kind, "id": found.id} | ({} if data is None else {"data": data})
    print(json.dumps(event, separators=(",", ":")), flush=True)


def _measured(found: store.Container) -> dict[str, Any]:
    used = usage.of_cgroups(cgroup.place().folders(found.record.cgroup))
    data: dict[str, Any] = {
        "cpu": {"usage": {"total": int(used.cpu * 1e9)}},
        "memory": {"usage": {"usage": used.memory, "limit": used.memory_limit}},
        "pids": {"current": used.pids},
        "blkio": {
            "ioServiceBytesRecursive": [{"op": "Read", "value": used.read}, {"op": "Write", "value": used.written}]
        },
    }
    for name, share in used.pressure.items():
        kind = "blkio" if name == "io" else name
        data[kind]["psi"] = {"some": {"avg10": share}}
    return data
