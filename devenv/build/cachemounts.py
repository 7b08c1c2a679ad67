"""Folders that outlive builds, for package managers and compilers: ``RUN --mount=type=cache``.

    <data>/build/cache-mounts/<id>.<number>/data     what is mounted
    <data>/build/cache-mounts/<id>.<number>/mount.json     its name, for people; its time is when it was last used
    <data>/build/cache-mounts/<id>.<number>.lock     shared or alone, as ``sharing`` says, by whoever uses it

``private`` takes the first one that nobody uses. No build depends on what is in them, so they may go at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from devenv.util import fs, paths, tree

SHARED, PRIVATE, LOCKED = "shared", "private", "locked"
MANY = 1000
_FOLDER = re.compile(r"[0-9a-f]{32}\.\d+", re.ASCII)


@contextlib.contextmanager
def held(where: paths.Paths, name: str, *, sharing: str, fill: Callable[[str], None]) -> Iterator[str]:
    """The folder, filled by ``fill`` when it is new."""
    base = f"{where.data}/build/cache-mounts/{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    os.makedirs(os.path.dirname(base), mode=0o700, exist_ok=True)
    for number in range(MANY if sharing == PRIVATE else 1):
        lock = _lock(f"{base}.{number}", sharing)
        if lock is not None:
            break
    else:
        raise OSError(11, f"more than {MANY} steps use it at once", name)
    try:
        yield _ready(f"{base}.{number}", name, fill)
    finally:
        os.close(lock)


def _lock(folder: str, sharing: str) -> int | None:
    descriptor = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        how = {SHARED: fcntl.LOCK_SH, LOCKED: fcntl.LOCK_EX, PRIVATE: fcntl.LOCK_EX | fcntl.LOCK_NB}[sharing]
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _ready(folder: str, name: str, fill: Callable[[str], None]) -> str:
    record = f"{folder}/mount.json"
    if not os.path.exists(record):
        stage = f"{folder}.{os.urandom(4).hex()}"
        os.makedirs(f"{stage}/data", mode=0o755)
        try:
            fill(f"{stage}/data")
            fs.write_json(f"{stage}/mount.json", {"id": name})
            with contextlib.suppress(FileExistsError, OSError):
                os.rename(stage, folder)  # another step that shares it may have been first
        finally:
            tree.remove(stage)
    else:
        os.utime(record)
    return f"{folder}/data"


class Kept(NamedTuple):
    path: str
    name: str
    used: float


def every(where: paths.Paths) -> list[Kept]:
    """Those used longest ago first."""
    folder = f"{where.data}/build/cache-mounts"
    found = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        record = fs.read_json(f"{folder}/{name}/mount.json")
        if isinstance(record, dict) and _FOLDER.fullmatch(name):
            used = os.stat(f"{folder}/{name}/mount.json").st_mtime
            found.append(Kept(f"{folder}/{name}", str(record["id"]), used))
    return sorted(found, key=lambda each: (each.used, each.path))


def sweep(where: paths.Paths) -> None:
    """What was being made when its builder was killed."""
    folder = f"{where.data}/build/cache-mounts"
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        base, _, end = name.rpartition(".")
        if not _FOLDER.fullmatch(base) or end == "lock":
            continue
        lock = _lock(f"{folder}/{base}", PRIVATE)
        if lock is not None:
            tree.remove(f"{folder}/{name}")
            os.close(lock)


def remove(path: str) -> bool:
    """False while a step uses it."""
    lock = _lock(path, PRIVATE)
    if lock is None:
        return False
    try:
        tree.remove(path)
        fs.remove(f"{path}.lock")
    finally:
        os.close(lock)
    return True
