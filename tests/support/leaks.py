"""A picture of the machine, taken before and after: mounts, links, cgroups, processes, folders, descriptors.

Other sessions may run on the same machine, so a thing counts when it is in the session's own namespaces or names the
session's folder or an id that the session made.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterable
from typing import NamedTuple


class Picture(NamedTuple):
    mounts: frozenset[str]
    links: frozenset[str]
    cgroups: frozenset[str]
    processes: dict[int, str]
    temporary: frozenset[str]
    descriptors: dict[str, str]

    @classmethod
    def take(cls, folder: str) -> Picture:
        return cls(
            mounts=_mounts(),
            links=frozenset(name for _, name in socket.if_nameindex()),
            cgroups=_cgroups(),
            processes={pid: _describe(pid) for pid in processes_naming(folder)},
            temporary=_temporary(),
            descriptors=_descriptors(),
        )

    def leaks_since(self, before: Picture, ids: Iterable[str], *, alone: bool) -> list[str]:
        """What came since, in words. ``alone``: nobody else uses this machine, so every cgroup is ours."""
        wanted = list(ids)
        found = [f"mount: {line}" for line in sorted(self.mounts - before.mounts)]
        found += [f"network interface: {name}" for name in sorted(self.links - before.links)]
        found += [
            f"cgroup: {path}"
            for path in sorted(self.cgroups - before.cgroups)
            if alone or any(name in path for name in wanted)
        ]
        found += [f"process {pid}: {text}" for pid, text in self.processes.items() if pid not in before.processes]
        found += [f"in /tmp: {name}" for name in sorted(self.temporary - before.temporary) if alone]
        found += [
            f"descriptor {number} of the test itself: {target}"
            for number, target in self.descriptors.items()
            if before.descriptors.get(number) != target
        ]
        return found


class Remains(NamedTuple):
    """What sessions side by side may leave that none of them can tell from the others' things."""

    cgroups: frozenset[str]
    temporary: frozenset[str]
    sessions: frozenset[str]

    @classmethod
    def look(cls) -> Remains:
        sessions = (name for name in os.listdir("/tmp") if name.startswith("dvt-"))
        return cls(_cgroups(), _temporary(), frozenset(sessions))


def nothing_since(before: Remains) -> bool:
    """Whether all is as it was. Raises ``AssertionError`` with what is not."""
    now = Remains.look()
    found = [f"cgroup: {path}" for path in sorted(now.cgroups - before.cgroups)]
    found += [f"in /tmp: {name}" for name in sorted(now.temporary - before.temporary)]
    for name in sorted(now.sessions - before.sessions):
        found.append(f"in /tmp: {name}")
        found += [f"process {pid}: {_describe(pid)}" for pid in processes_naming(f"/tmp/{name}")]
    assert not found, "left behind:\n  " + "\n  ".join(found)
    return True


def _mounts() -> frozenset[str]:
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        # Without the ids, which differ when something is mounted again at the same place.
        return frozenset(" ".join(line.split()[2:]) for line in file)


def _cgroups() -> frozenset[str]:
    found: set[str] = set()
    for parent, folders, _ in os.walk("/sys/fs/cgroup"):
        found.update(f"{parent}/{name}" for name in folders if "devenv" in f"{parent}/{name}")
    return frozenset(found)


def _temporary() -> frozenset[str]:
    return frozenset(name for name in os.listdir("/tmp") if "devenv" in name)


def _descriptors() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    # The folder being listed has a descriptor as well, gone by now.
    return {number: target for number, target in found.items() if not target.endswith("/fd")}


def _describe(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        state = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        return f"({state}) {words.strip()[:300]}"
    return "gone"


def processes_naming(folder: str, *, own_words: bool = False) -> list[int]:
    """Processes that have to do with ``folder``: by command line or environment, open files, folder or mounts.

    ``own_words`` looks at command line and environment alone: devenv's own processes, not the containers.
    """
    needle = os.fsencode(folder) + b"/"
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _names(name, needle, own_words):
            found.append(int(name))
    return sorted(found)


def _names(pid: str, needle: bytes, own_words: bool) -> bool:
    for kind in ("cmdline", "environ") if own_words else ("cmdline", "environ", "mountinfo"):
        with contextlib.suppress(OSError):
            content = pathlib.Path(f"/proc/{pid}/{kind}").read_bytes()
            # Every process of the session sees the session's own mounts; a container has an overlay of its own.
            if kind == "mountinfo":
                content = b"\n".join(line for line in content.splitlines() if b" / / " in line)
            if needle in content:
                return True
    if own_words:
        return False
    with contextlib.suppress(OSError):
        if needle in os.fsencode(os.readlink(f"/proc/{pid}/cwd")) + b"/":
            return True
        for number in os.listdir(f"/proc/{pid}/fd"):
            if needle in os.fsencode(os.readlink(f"/proc/{pid}/fd/{number}")):
                return True
    return False
