"""What changed in a file system: of a container against its image, of an image against another.

    A  added     C  changed     D  deleted

The folder on top is looked at alone, entry by entry against what is below, so it costs what changed and not what is
there. Comparing two images walks both.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from devenv.image import below


class Change(NamedTuple):
    kind: str
    path: str  # from the root on


def of_top(top: str, lower: Sequence[str], *, opaque: str) -> Iterator[Change]:
    """What ``top``, an overlay's upper folder or an unpacked layer, changes; ``lower``: the topmost first. Sorted."""
    yield from _Top(below.Below(lower, opaque=opaque), opaque).walk(os.fsencode(top), ())


class _Top:
    def __init__(self, lower: below.Below, opaque: str) -> None:
        self._lower = lower
        self._opaque = opaque

    def walk(self, folder: bytes, parts: tuple[bytes, ...]) -> Iterator[Change]:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        hidden = self._hidden(folder, parts, {entry.name for entry in found})
        for name, entry in sorted({**dict.fromkeys(hidden), **{entry.name: entry for entry in found}}.items()):
            path = (*parts, name)
            if entry is None or is_whiteout(entry.stat(follow_symlinks=False)):
                yield Change("D", _shown(path))
                continue
            yield Change("C" if self._lower.find(path) else "A", _shown(path))
            if entry.is_dir(follow_symlinks=False):
                yield from self.walk(entry.path, path)

    def _hidden(self, folder: bytes, parts: tuple[bytes, ...], there: set[bytes]) -> list[bytes]:
        """What an opaque folder covers and does not have itself."""
        if parts and is_opaque(folder, self._opaque):
            return [name for name in self._lower.names(parts) if name not in there]
        return []


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: bytes, attribute: str) -> bool:
    try:
        return os.getxattr(folder, attribute, follow_symlinks=False) == b"y"
    except OSError:
        return False


def between(old: Sequence[str], new: Sequence[str], *, opaque: str) -> Iterator[Change]:
    """Two stacks of folders, the topmost first. Sorted."""
    yield from _compare(below.Below(old, opaque=opaque), below.Below(new, opaque=opaque), ())


def _compare(old: below.Below, new: below.Below, parts: tuple[bytes, ...]) -> Iterator[Change]:
    for name in sorted({*old.names(parts), *new.names(parts)}):
        path = (*parts, name)
        before, after = old.find(path), new.find(path)
        if after is None:
            yield Change("D", _shown(path))
            continue
        if before is None:
            yield Change("A", _shown(path))
        elif _differs(before, after):
            yield Change("C", _shown(path))
        if stat.S_ISDIR(after.status.st_mode):
            yield from _compare(old, new, path)


def _differs(before: below.Found, after: below.Found) -> bool:
    if before.path == after.path:
        return False
    one, two = before.status, after.status
    if (one.st_mode, one.st_uid, one.st_gid, one.st_rdev) != (two.st_mode, two.st_uid, two.st_gid, two.st_rdev):
        return True
    if stat.S_ISDIR(one.st_mode):
        return False
    if stat.S_ISLNK(one.st_mode):
        return os.readlink(before.path) != os.readlink(after.path)
    return (one.st_size, one.st_mtime_ns) != (two.st_size, two.st_mtime_ns)


def _shown(parts: Sequence[bytes]) -> str:
    return "/" + os.fsdecode(b"/".join(parts))
