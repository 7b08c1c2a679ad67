"""What nothing needs any more is found and taken away: blobs, unpacked layers, records, and transfers given up.

    roots     images in the index, leases of living processes, containers, layouts on disk whose layers are unpacked,
              and what builds keep, up to an age and a size
    mark      index ─▶ manifests ─▶ config and layers; a config ─▶ the chain ids of its unpacked layers
    sweep     blobs are unlinked, layers renamed to <data>/trash; only then the lock is let go, and the trash removed

Nobody waits for longer than that takes, some milliseconds. Killed anywhere, the next run finishes what this one began.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

from devenv import errors
from devenv.image import blobs, buildcache, content, descriptor, index, lease, manifest, records, snapshot
from devenv.util import fs, lock, paths, tree

GIVEN_UP = 7 * 86400.0  # seconds after which a transfer that broke off is not expected to go on

_NAME = re.compile(r"[0-9a-f]{64}|host-[0-9a-f]{24}", re.ASCII)
_LAYER = re.compile(rb"/layers/([0-9a-f]{64}|host-[0-9a-f]{24})/")


class Collected(NamedTuple):
    blobs: int = 0
    layers: int = 0
    size: int = 0  # in bytes, of files


class Reach(NamedTuple):
    """What one image needs, as hexadecimal names."""

    blobs: frozenset[str]
    layers: frozenset[str]


def collect(where: paths.Paths, *, given_up: float = GIVEN_UP) -> Collected:
    from devenv.image import host

    with lease.exclusive(where):
        # Leases first: who lets one go has put its image into the index, or its container on the disk, before.
        leased = lease.living(where)
        images = index.Index(where).images()
        needed = leased | containers(where) | records.sweep(where, {image.target.digest for image in images})
        needed |= {host.current(where)} | buildcache.expire(where)
        for image in images:
            reached = reach(where, image.target)
            needed |= reached.blobs | reached.layers
        found = _sweep_blobs(where, needed)
        _sweep_partials(where, leased, time.time() - given_up)
        layers, size = _sweep_layers(where, needed)
    _empty_trash(where)
    return Collected(found.blobs, layers, found.size + size)


def reach(where: paths.Paths, target: descriptor.Descriptor) -> Reach:
    """As far as it is here: of an index, most often one platform is."""
    store = blobs.BlobStore(where)
    found, layers = {target.hex}, set[str]()
    pending = [target]
    while pending:
        current = pending.pop()
        with contextlib.suppress(errors.ImageError):
            data = store.read(current, what="")
            inner = [each for each in manifest.references(data, current, what="") if store.has(each)]
            pending += [each for each in inner if each.hex not in found and each.media_type in descriptor.DOCUMENTS]
            found |= {each.hex for each in inner}
            if current.media_type in descriptor.MANIFESTS:
                config = manifest.parse(data, current, what="").config
                _, diff_ids, _ = content.parse_config(store.read(config, what=""), what="")
                layers |= set(snapshot.chain(diff_ids))
    return Reach(frozenset(found), frozenset(layers))


def containers(where: paths.Paths) -> set[str]:
    """Layers that containers, running or not, are mounted from."""
    found: set[str] = set()
    folder = f"{where.data}/containers"
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError), open(f"{folder}/{name}/config.json", "rb") as file:
                found |= {each.decode() for each in _LAYER.findall(file.read())}
    return found


# -- taking away --------------------------------------------------------------------------------------------------


def entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (entry for entry in entries if _NAME.fullmatch(entry.name))


def _sweep_blobs(where: paths.Paths, needed: set[str]) -> Collected:
    count = size = 0
    for entry in entries(blobs.BlobStore(where).folder):
        if entry.name not in needed:
            size += entry.stat(follow_symlinks=False).st_size
            os.unlink(entry.path)
            count += 1
    return Collected(blobs=count, size=size)


def _sweep_layers(where: paths.Paths, needed: set[str]) -> tuple[int, int]:
    trash = f"{where.data}/trash"
    count = size = 0
    for entry in entries(f"{where.data}/layers"):
        if entry.name not in needed:
            size += snapshot.size(entry.path)
            os.makedirs(trash, mode=0o700, exist_ok=True)
            os.rename(entry.path, f"{trash}/{entry.name}.{os.urandom(4).hex()}")
            count += 1
    return count, size


def _sweep_partials(where: paths.Paths, leased: set[str], before: float) -> None:
    for entry in entries(f"{where.data}/ingest"):
        if entry.name in leased or entry.stat(follow_symlinks=False).st_mtime > before:
            continue
        held = lock.acquire(entry.path, wait=False)
        if held is not None:
            fs.remove(entry.path)
            os.close(held)


def _empty_trash(where: paths.Paths) -> None:
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(f"{where.data}/trash"):
            # Another collector may be at it, too.
            with contextlib.suppress(OSError):
                tree.remove(f"{where.data}/trash/{name}")
