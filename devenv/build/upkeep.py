"""What builds leave on the disk, and getting it back.

<data>/build/cache/         results                         by the collector's rules, or all of them
<data>/build/cache-mounts/  what `--mount=type=cache` keeps     when nobody used it for long, or all of them
<data>/build/selections/ contexts/ urls/ git/   what was found, and fetched     when nobody used it for long
<data>/build/failed/        filesystems of failed steps     after a day
<data>/build/steps/         what killed builders left       by whoever comes next
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from devenv import errors
from devenv.build import cachemounts, network, run, running, steps
from devenv.image import buildcache, usage
from devenv.util import paths, tree

KEPT_FAILURES = 86400.0
_MEMORIES = ("selections", "contexts", "urls", "git", "received", "last", "compressed")


class Usage(NamedTuple):
    results: int
    mounts: int
    mounts_size: int  # in bytes


def measure(where: paths.Paths) -> Usage:
    mounts = cachemounts.every(where)
    size = sum(usage.tree_size(f"{each.path}/data") for each in mounts)
    return Usage(len(buildcache.everything(where)), len(mounts), size)


def sweep(where: paths.Paths, *, now: float | None = None) -> None:
    """Finish what killed builders left, and drop what nobody used for long."""
    now = time.time() if now is None else now
    clear_steps(where)
    for each in cachemounts.every(where):
        if each.used < now - buildcache.FORGOTTEN:
            cachemounts.remove(each.path)
    cachemounts.sweep(where)
    _drop_older(f"{where.data}/build/failed", now - KEPT_FAILURES)
    for name in _MEMORIES:
        _drop_older(f"{where.data}/build/{name}", now - buildcache.FORGOTTEN)


def clear(where: paths.Paths) -> int:
    """Everything that a build could find again; the bytes of cache mounts. Blobs and layers are the collector's."""
    buildcache.expire(where, keep=0)
    freed = 0
    for each in cachemounts.every(where):
        size = usage.tree_size(f"{each.path}/data")
        if cachemounts.remove(each.path):
            freed += size
    for name in (*_MEMORIES, "failed"):
        _drop_older(f"{where.data}/build/{name}", time.time() + 1)
    return freed


def clear_steps(where: paths.Paths, machine: run.Machine | None = None) -> None:
    """Processes, cgroups, addresses and folders of steps whose builder was killed, and a network that nobody uses."""
    if steps.left(where):
        with contextlib.ExitStack() as held:
            if machine is None:
                machine = run.Machine(running.Running(where), network.Network(where))
                held.callback(machine.running.close)
                held.callback(machine.network.close)
            used = machine

            def end(name: str) -> None:
                used.running.sweep(name)
                with contextlib.suppress(errors.NetworkError):
                    used.network.release(name)

            steps.sweep(where, end)
    network.sweep(where)


def _drop_older(folder: str, before: float) -> None:
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            path = f"{folder}/{name}"
            with contextlib.suppress(OSError):
                if os.stat(path).st_mtime < before:
                    tree.remove(path)
