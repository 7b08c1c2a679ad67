"""How much the store takes, and what would be free without some of its images, by the collector's own rules.

An image's blobs and layers may be another's, too, so sizes of images don't add up; what is free without some of them
is what nothing else needs. ``Usage.freed`` says what ``gc.collect`` then finds.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from devenv.image import blobs, buildcache, gc, host, index, lease, names, records, snapshot
from devenv.util import paths


class Usage(NamedTuple):
    images: tuple[names.Stored, ...]
    blobs: dict[str, int]  # name -> bytes
    layers: dict[str, int]
    anyway: frozenset[str]  # what stays without any image: what containers, leases and layouts on the disk need
    reached: dict[str, frozenset[str]]  # by an image's digest: all names that it needs
    cached: frozenset[str] = frozenset()  # what builds keep

    @property
    def total(self) -> int:
        return sum(self.blobs.values()) + sum(self.layers.values())

    @property
    def cache(self) -> int:
        """In bytes, of what is kept for builds and nothing else."""
        others = frozenset().union(*self.reached.values())
        own = self.cached - others
        return sum(size for found in (self.blobs, self.layers) for name, size in found.items() if name in own)

    def freed(self, kept: Collection[str]) -> int:
        """In bytes, if only images of these digests stay."""
        needed = self.anyway.union(*(self.reached[digest] for digest in kept))
        return sum(size for found in (self.blobs, self.layers) for name, size in found.items() if name not in needed)


def take(where: paths.Paths) -> Usage:
    with lease.exclusive(where):
        anyway = lease.living(where) | gc.containers(where) | records.of_layouts(where) | {host.current(where)}
        cached = {name for each in buildcache.everything(where) for name in each.names}
        images = tuple(index.Index(where).images())
        reached = {}
        for image in images:
            found = gc.reach(where, image.target)
            reached[image.target.digest] = found.blobs | found.layers
        stored = {entry.name: entry.stat().st_size for entry in gc.entries(blobs.BlobStore(where).folder)}
        layers = {entry.name: snapshot.size(entry.path) for entry in gc.entries(f"{where.data}/layers")}
    return Usage(images, stored, layers, frozenset(anyway | cached), reached, frozenset(cached))


def over_budget(found: Usage, candidates: Sequence[str], keep: int) -> list[str]:
    """Which of ``candidates``, in this order, have to go so that no more than ``keep`` bytes stay."""
    kept = {image.target.digest for image in found.images}
    gone: list[str] = []
    for digest in candidates:
        if found.total - found.freed(kept) <= keep:
            break
        kept.discard(digest)
        gone.append(digest)
    return gone


def unfinished(where: paths.Paths) -> int:
    """In bytes: transfers that broke off, and what is being unpacked or thrown away."""
    return sum(tree_size(f"{where.data}/{name}") for name in ("ingest", "stage", "trash"))


def tree_size(folder: str) -> int:
    """Of the files in it, each once, as far as they may be seen."""
    total, seen = 0, set[tuple[int, int]]()
    for parent, _, files in os.walk(folder):
        for status in _statuses(parent, files):
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def _statuses(parent: str, names: Iterable[str]) -> Iterable[os.stat_result]:
    for name in names:
        try:
            yield os.lstat(f"{parent}/{name}")
        except OSError:
            continue
