"""What builds keep: which key a layer was made for. ``devenv.build`` makes the keys, the collector goes by this.

    <data>/build/cache/<key>.json     one result; its time of modification is when it was last used, to the hour

Written, by rename, when the layer is whole in the store, so there is no entry without its layer; a layer without an
entry is garbage. One that was not yet synced names its boot, and means nothing after another.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import descriptor, snapshot
from devenv.util import fs, paths

VERSION = 1
USED_SECONDS = 3600.0
FORGOTTEN = 30 * 86400.0  # seconds after which a result that no build used is not expected to be used again
SHARE = 10  # the part of the disk, one of so many, that results may take

_NAME = re.compile(r"([0-9a-f]{64})\.json", re.ASCII)


class Entry(NamedTuple):
    key: str
    diff_id: str
    blob: descriptor.Descriptor
    chain_id: str  # where it was unpacked first
    created: str
    name: str  # of the step, for people
    settled: bool = True  # survives a power cut


class Kept(NamedTuple):
    """An entry as the collector sees it."""

    entry: Entry
    used: float
    size: int

    @property
    def names(self) -> set[str]:
        return {self.entry.blob.hex, self.entry.chain_id}


def load(where: paths.Paths, key: str) -> Entry | None:
    value: Any = fs.read_json(_path(where, key))
    if not isinstance(value, dict) or value.get("version") != VERSION:
        return None
    if value.get("boot") not in {None, snapshot.boot_id()}:
        return None
    try:
        blob = descriptor.parse(value["blob"], what="build cache")
        diff_id = descriptor.check_digest(value["diff_id"], what="build cache")
        chain_id, created, name = str(value["chain_id"]), str(value["created"]), str(value["name"])
    except (KeyError, errors.ImageError):
        return None
    return Entry(key, diff_id, blob, chain_id, created, name, settled=value.get("boot") is None)


def save(where: paths.Paths, entry: Entry) -> None:
    os.makedirs(f"{where.data}/build/cache", mode=0o700, exist_ok=True)
    value = {
        "version": VERSION,
        "diff_id": entry.diff_id,
        "blob": descriptor.to_json(entry.blob),
        "chain_id": entry.chain_id,
        "created": entry.created,
        "name": entry.name,
        **({} if entry.settled else {"boot": snapshot.boot_id()}),
    }
    fs.write_json(_path(where, entry.key), value)


def touch(where: paths.Paths, key: str) -> None:
    path = _path(where, key)
    with contextlib.suppress(OSError):
        if time.time() - os.stat(path).st_mtime > USED_SECONDS:
            os.utime(path)


def settle(where: paths.Paths, entries: Iterable[Entry]) -> None:
    """Their blobs and layers are synced now."""
    for entry in entries:
        now = load(where, entry.key)
        if now is not None and now.diff_id == entry.diff_id:
            save(where, now._replace(settled=True))


def everything(where: paths.Paths) -> list[Kept]:
    """Those used longest ago first."""
    found = []
    for key, used in _keys(where):
        entry = load(where, key)
        if entry is not None:
            size = entry.blob.size + snapshot.size(f"{where.data}/layers/{entry.chain_id}")
            found.append(Kept(entry, used, size))
    return sorted(found, key=lambda each: (each.used, each.entry.key))


def expire(where: paths.Paths, *, forgotten: float = FORGOTTEN, keep: int | None = None) -> set[str]:
    """Drop what nobody used for long, and what is over the budget; the names that the rest needs."""
    budget = _budget(where) if keep is None else keep
    before = time.time() - forgotten
    kept, total = set[str](), 0
    for each in reversed(everything(where)):
        fresh = each.names - kept
        size = each.size if fresh else 0
        if each.used < before or total + size > budget:
            fs.remove(_path(where, each.entry.key))
        else:
            kept |= each.names
            total += size
    return kept


def _budget(where: paths.Paths) -> int:
    disk = os.statvfs(where.data)
    return disk.f_blocks * disk.f_frsize // SHARE


def _keys(where: paths.Paths) -> Iterator[tuple[str, float]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(f"{where.data}/build/cache") as entries:
        for each in entries:
            match = _NAME.fullmatch(each.name)
            if match is not None:
                with contextlib.suppress(FileNotFoundError):
                    yield match[1], each.stat().st_mtime


def _path(where: paths.Paths, key: str) -> str:
    return f"{where.data}/build/cache/{key}.json"
