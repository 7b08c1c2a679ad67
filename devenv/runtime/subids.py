"""Ranges of ids for user namespaces: what /etc/subuid and /etc/subgid lend, and which project has which.

    <data>/ids.json         {"ranges": {"<project id>": first}}, changed under ids.lock

A project has one range for as long as it has containers. Files on disk have the ids that they have in containers, so
that a range may go to another project as soon as nothing runs with it. Ranges come from the lines of `devenv` or
`containers` (podman's name for the same purpose) in /etc/subuid; without such a line from ids that systemd sets
apart for containers (its UIDS-GIDS document), passing over what /etc/subuid lends to others. Each project starts to
look at another place, so that installations that don't know of each other hardly ever meet.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from devenv import errors
from devenv.util import fs, lock, paths

SIZE = 65536  # ids from 0 to nobody, 65534, and the one after it
OWNERS = ("devenv", "containers")


class Range(NamedTuple):
    first: int
    size: int

    @property
    def end(self) -> int:
        return self.first + self.size

    def overlaps(self, other: Range) -> bool:
        return self.first < other.end and other.first < self.end


# Of systemd's 0x80000…0x6FFFFFFF the upper half: the lower has the ranges that useradd(8) gives to users.
DEFAULT = Range(0x40000000, 0x30000000)


def lines(path: str) -> Iterator[tuple[str, Range]]:
    """Of subuid(5): the name or number, and what it is lent."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                name, _, rest = line.strip().partition(":")
                first, _, count = rest.partition(":")
                if first.isdecimal() and count.isdecimal():
                    yield name, Range(int(first), int(count))
    except OSError:
        return


def of_user(path: str, uid: int) -> list[Range]:
    names = {str(uid), user_name(uid)}
    return [lent for name, lent in lines(path) if name in names]


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def allocate(where: paths.Paths, project_id: str, *, etc: str = "/etc") -> Range:
    """The project's range, the same until ``release``. Raises ``HostError`` when all are taken."""
    with _held(where):
        taken = _ranges(where)
        slots = _slots(etc)
        if project_id in taken and Range(taken[project_id], SIZE) in slots:
            return Range(taken[project_id], SIZE)
        used = {first for name, first in taken.items() if name != project_id}
        free = next((slot for slot in slots.rotated(f"{where.data} {project_id}") if slot.first not in used), None)
        if free is None:
            raise errors.HostError(
                f"all {len(used)} ranges of ids are given to projects",
                hint="remove what isn't needed with `devenv down`, or give `devenv` a larger range in /etc/subuid and "
                "/etc/subgid",
            )
        _save(where, {**taken, project_id: free.first})
        return free


def release(where: paths.Paths, project_id: str) -> None:
    """Nothing runs with it any more."""
    if project_id in _ranges(where):
        with _held(where):
            _save(where, {name: first for name, first in _ranges(where).items() if name != project_id})


class _Slots:
    """Places for ranges, by number."""

    def __init__(self, pool: Iterable[Range], others: list[Range]) -> None:
        self._pool = list(pool)
        self._others = others

    def __contains__(self, wanted: Range) -> bool:
        inside = any(
            lent.first <= wanted.first and wanted.end <= lent.end and (wanted.first - lent.first) % SIZE == 0
            for lent in self._pool
        )
        return inside and not any(wanted.overlaps(other) for other in self._others)

    def rotated(self, seed: str) -> Iterator[Range]:
        """All of them, from one that ``seed`` decides on."""
        count = sum(lent.size // SIZE for lent in self._pool)
        start = int.from_bytes(hashlib.sha256(seed.encode("utf-8", "surrogateescape")).digest()[:8]) % max(count, 1)
        for step in range(count):
            found = self._at((start + step) % count)
            if not any(found.overlaps(other) for other in self._others):
                yield found

    def _at(self, number: int) -> Range:
        for lent in self._pool:
            if number < lent.size // SIZE:
                return Range(lent.first + number * SIZE, SIZE)
            number -= lent.size // SIZE
        raise IndexError(number)


def _slots(etc: str) -> _Slots:
    uids, gids = list(lines(f"{etc}/subuid")), list(lines(f"{etc}/subgid"))
    for owner in OWNERS:
        lent, groups = ([each for name, each in found if name == owner] for found in (uids, gids))
        if not lent:
            continue
        # One number for both keeps the mapping simple, and is how useradd(8) gives them.
        both = [each for each in lent if each in groups and each.size >= SIZE]
        if not both:
            raise errors.HostError(
                f"`{owner}` has no range of {SIZE} ids that is the same in /etc/subuid and /etc/subgid",
                hint=f"write `{owner}:{DEFAULT.first}:{16 * SIZE}` to both, or take its lines out",
            )
        return _Slots(both, [])
    return _Slots([DEFAULT], [each for _, each in (*uids, *gids)])


@contextlib.contextmanager
def _held(where: paths.Paths) -> Iterator[None]:
    os.makedirs(where.data, mode=0o700, exist_ok=True)
    with lock.held(f"{where.data}/ids.lock"):
        yield


def _ranges(where: paths.Paths) -> dict[str, int]:
    found = fs.read_json(f"{where.data}/ids.json")
    ranges = found.get("ranges") if isinstance(found, dict) else None
    return dict(ranges) if isinstance(ranges, dict) else {}


def _save(where: paths.Paths, ranges: dict[str, int]) -> None:
    fs.write_json(f"{where.data}/ids.json", {"ranges": ranges})
