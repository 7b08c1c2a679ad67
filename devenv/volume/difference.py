"""What differs between two folders, by what lstat(2) says: kind, size, time of writing, owner and mode."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator


def of(before: str, now: str, path: str = "") -> Iterator[tuple[str, str]]:
    """A, C or D, and a path; what is in a folder that was added or deleted is not told one by one."""
    old, new = _listed(f"{before}/{path}"), _listed(f"{now}/{path}")
    for name in sorted(old | new):
        inner = f"{path}/{name}" if path else name
        if name not in new:
            yield "D", inner
        elif name not in old:
            yield "A", inner
        else:
            was, there = os.lstat(f"{before}/{inner}"), os.lstat(f"{now}/{inner}")
            if _told(was) != _told(there):
                yield "C", inner
            if stat.S_ISDIR(was.st_mode) and stat.S_ISDIR(there.st_mode):
                yield from of(before, now, inner)


def of_layers(before: str, now: str) -> Iterator[tuple[str, str]]:
    """The same of two writable layers over one image: what a layer says has gone is a device of number 0."""
    for kind, path in of(before, now):
        was, there = _is_whiteout(f"{before}/{path}"), _is_whiteout(f"{now}/{path}")
        yield ("D" if there else "A" if was else kind), path


def _is_whiteout(path: str) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _listed(path: str) -> set[str]:
    return set(os.listdir(path))


def _told(status: os.stat_result) -> tuple[int, ...]:
    always = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev)
    return always if stat.S_ISDIR(status.st_mode) else (*always, status.st_size, status.st_mtime_ns)
