"""What preparing an image came to, so that the next time costs a look at two files and no database.

    <data>/images/<key>.json     by reference; good while its origin is unchanged and its layers are there

Its time of modification is when the image was last used, to the hour.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import Any, NamedTuple

from devenv.image import config as image_config
from devenv.image import image as image_module
from devenv.util import fs, paths

VERSION = 3
USED_SECONDS = 3600.0

State = list[int]


class Record(NamedTuple):
    image: image_module.Image
    origin: str  # the file that changes when the image does
    state: State | None
    boot: str  # in which it was looked at: what is on the disk may not have survived to the next one
    target: str  # the digest in the store's index, "" for what lies elsewhere


def state_of(path: str) -> State | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def load(where: paths.Paths, key: str) -> Record | None:
    return _read(f"{where.data}/images/{key}.json")


def save(where: paths.Paths, key: str, record: Record) -> None:
    os.makedirs(f"{where.data}/images", mode=0o700, exist_ok=True)
    image = record.image
    value = {
        "version": VERSION,
        "origin": record.origin,
        "state": record.state,
        "boot": record.boot,
        "target": record.target,
        "reference": image.reference,
        "digest": image.digest,
        "config": image.config.to_json(),
        "lower": image.lower,
        "notes": image.notes,
    }
    fs.write_json(f"{where.data}/images/{key}.json", value)


def is_whole(record: Record) -> bool:
    return all(os.path.isdir(folder) for folder in record.image.lower)


def touch(where: paths.Paths, key: str) -> None:
    path = f"{where.data}/images/{key}.json"
    with contextlib.suppress(OSError):
        if time.time() - os.stat(path).st_mtime > USED_SECONDS:
            os.utime(path)


def used(where: paths.Paths) -> dict[str, float]:
    """Of images in the store, by digest: when each was last used."""
    found: dict[str, float] = {}
    for path in _files(where):
        record = _read(path)
        with contextlib.suppress(OSError):
            if record is not None and record.target:
                found[record.target] = max(found.get(record.target, 0.0), os.stat(path).st_mtime)
    return found


def sweep(where: paths.Paths, stored: set[str]) -> set[str]:
    """Remove records of what is gone; the chain ids that the others have unpacked. For the garbage collector."""
    needed: set[str] = set()
    for path in _files(where):
        record = _read(path)
        there = record is not None and (
            record.target in stored if record.target else state_of(record.origin) == record.state
        )
        if record is None or not there:
            fs.remove(path)
        else:
            needed |= set(chain_ids(record.image))
    return needed


def of_layouts(where: paths.Paths) -> set[str]:
    """Chain ids of the layers of images that lie elsewhere on the disk and are unchanged."""
    found = [record for path in _files(where) if (record := _read(path)) is not None and not record.target]
    return {each for record in found if state_of(record.origin) == record.state for each in chain_ids(record.image)}


def chain_ids(image: image_module.Image) -> list[str]:
    return [os.path.basename(os.path.dirname(folder)) for folder in image.lower]


def _files(where: paths.Paths) -> list[str]:
    folder = f"{where.data}/images"
    with contextlib.suppress(FileNotFoundError):
        return [f"{folder}/{name}" for name in os.listdir(folder) if len(name) == len("0" * 64 + ".json")]
    return []


def _read(path: str) -> Record | None:
    value: Any = fs.read_json(path)
    if not isinstance(value, dict) or value.get("version") != VERSION:
        return None
    try:
        image = image_module.Image(
            reference=value["reference"],
            digest=value["digest"],
            config=image_config.ImageConfig.from_json(value["config"]),
            lower=tuple(value["lower"]),
            notes=tuple(value["notes"]),
        )
        return Record(image, value["origin"], value["state"], value["boot"], value["target"])
    except (KeyError, TypeError, AttributeError):
        return None
