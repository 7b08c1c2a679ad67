"""The folder of a step that runs: its own layer, and what is mounted in it.

    <data>/build/steps/<id>/        upper/ work/ hosts hostname resolv.conf mounts/; renamed away or removed
    <data>/build/steps/<id>.lock    held by its builder; who finds it free may clear up
    <run>/build/<id>/               the bundle, and what else must not be on a disk: secrets, the agent's socket

A builder that was killed leaves these; the next one, or the collector, takes them away with the process, the cgroup and
the address that belong to them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import NamedTuple

from devenv.build import running
from devenv.util import fs, identity, lock, paths, tree


class Folder(NamedTuple):
    id: str
    path: str
    private: str  # in memory, where the machine has it so


Left = Callable[[str], None]


@contextlib.contextmanager
def folder(where: paths.Paths) -> Iterator[Folder]:
    name = identity.new_container_id()
    made = Folder(name, f"{where.data}/build/steps/{name}", f"{where.run}/build/{name[:16]}")
    os.makedirs(os.path.dirname(made.path), mode=0o700, exist_ok=True)
    held = lock.acquire(f"{made.path}.lock", wait=True)
    assert held is not None
    try:
        os.mkdir(made.path, 0o700)
        os.makedirs(made.private, mode=0o700)
        yield made
    except running.Gone as exc:
        if exc.told:
            remove(made)
        raise  # else there is more to clear up than a folder: `sweep`
    except BaseException:
        remove(made)
        raise
    else:
        remove(made)
    finally:
        os.close(held)


def remove(made: Folder) -> None:
    with contextlib.suppress(OSError):
        tree.remove(made.path)
    with contextlib.suppress(OSError):
        tree.remove(made.private)
    fs.remove(f"{made.path}.lock")


def remember(made: Folder, *, pid: int, start_time: int) -> None:
    """Its first process, for whoever has to end it in our place."""
    fs.write_json(f"{made.path}/process.json", {"pid": pid, "start_time": start_time})


def keep(where: paths.Paths, made: Folder) -> str:
    """For somebody to look into what a failed step left; the next builds leave it alone for a day."""
    kept = f"{where.data}/build/failed/{made.id}"
    os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
    os.rename(made.path, kept)
    return kept


def left(where: paths.Paths) -> bool:
    """Whether there may be something to sweep: steps that run are there, too."""
    with contextlib.suppress(FileNotFoundError), os.scandir(f"{where.data}/build/steps") as entries:
        return any(entries)
    return False


def sweep(where: paths.Paths, left: Left) -> None:
    """``left`` is called for each step whose builder has gone, to free what else it had; then its folder goes."""
    folder = f"{where.data}/build/steps"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in sorted({name.removesuffix(".lock") for name in names}):
        held = lock.acquire(f"{folder}/{name}.lock", wait=False)
        if held is None:
            continue
        try:
            _end(f"{folder}/{name}/process.json")
            left(name)
            remove(Folder(name, f"{folder}/{name}", f"{where.run}/build/{name[:16]}"))
        finally:
            os.close(held)


def _end(path: str) -> None:
    found = fs.read_json(path)
    if isinstance(found, dict) and identity.process_start_time(int(found["pid"])) == found["start_time"]:
        with contextlib.suppress(OSError):
            os.kill(int(found["pid"]), signal.SIGKILL)
