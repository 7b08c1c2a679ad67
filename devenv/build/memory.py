"""What a context's files were found to hold, so that those that have not changed aren't read again.

    <data>/build/contexts/<id of the folder>/files.json        path -> stamp, digest
    <data>/build/contexts/<id of the folder>/selections.json   stamp of a whole selection -> its digest

A stamp is size, times, inode and device. ``ctime`` changes with the content, the mode, the owner and the attributes,
and nobody can set it, so that what has the same stamp is the same. But for one case, git's "racy" one: a file that was
written in the same tick of the clock as it was looked at may be written once more without a new time. What has changed
just before it is looked at is thus not remembered.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import Any

from devenv.util import fs

VERSION = 1
SELECTIONS = 256
_TICK = 50_000_000  # more than the kernel's clock lags behind: a tick is 10 ms at most
_COARSE = 2_000_000_000  # where only seconds are kept, or pairs of them

Stamp = list[int]


def stamp(status: os.stat_result) -> Stamp:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def is_settled(status: os.stat_result, now: int) -> bool:
    """Whether a change after ``now`` is sure to give it another stamp."""
    latest = max(status.st_mtime_ns, status.st_ctime_ns)
    coarse = not latest % 1_000_000_000
    return latest < now - (_COARSE if coarse else _TICK)


def clock() -> int:
    return time.time_ns()


class Memory:
    """Of one folder. Safe in threads; processes that use the same one at once lose no more than what they learned."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[str, Any] | None = None  # read when needed: the usual case needs the selections alone
        self._used: set[str] = set()
        self._selections: dict[str, str] | None = None
        self._changed: set[str] = set()

    def selection(self, key: str) -> str | None:
        with self._lock:
            return self._load_selections().get(key)

    def remember_selection(self, key: str, digest: str) -> None:
        with self._lock:
            selections = self._load_selections()
            selections.pop(key, None)
            selections[key] = digest
            while len(selections) > SELECTIONS:
                del selections[next(iter(selections))]
            self._changed.add("selections")

    def digests(self, stamps: dict[str, Stamp]) -> dict[str, str]:
        """Those that are known, by path."""
        with self._lock:
            files = self._load_files()
            self._used |= stamps.keys()
            found = {}
            for path, wanted in stamps.items():
                known = files.get(path)
                if known is not None and known[0] == wanted:
                    found[path] = known[1]
            return found

    def remember(self, learned: dict[str, tuple[Stamp, str]]) -> None:
        if not learned:
            return
        with self._lock:
            files = self._load_files()
            files.update((path, list(each)) for path, each in learned.items())
            self._used |= learned.keys()
            self._changed.add("files")

    def save(self) -> None:
        """What was learned, if anything was. Raises ``OSError``."""
        with self._lock:
            if not self._changed:
                return
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if "files" in self._changed and self._files is not None:
                # Files that are gone: once they are the greater part.
                if len(self._files) > 2 * len(self._used) + 1000:
                    self._files = {path: each for path, each in self._files.items() if path in self._used}
                self._write("files", self._files)
            if "selections" in self._changed and self._selections is not None:
                self._write("selections", self._selections)
            self._changed.clear()

    def _load_files(self) -> dict[str, Any]:
        if self._files is None:
            self._files = self._read("files")
        return self._files

    def _load_selections(self) -> dict[str, str]:
        if self._selections is None:
            self._selections = self._read("selections")
        return self._selections

    def _read(self, name: str) -> dict[str, Any]:
        record = fs.read_json(f"{self._folder}/{name}.json")
        if not isinstance(record, dict) or record.get("version") != VERSION or not isinstance(record.get(name), dict):
            return {}
        found: dict[str, Any] = record[name]
        return found

    def _write(self, name: str, value: dict[str, Any]) -> None:
        fs.write_json(f"{self._folder}/{name}.json", {"version": VERSION, name: value})


def of_folder(data: str, folder: str) -> Memory:
    """``data``: devenv's data folder. A folder goes by its real path: its inode and device are in the stamps."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    return Memory(f"{data}/build/contexts/{name}")
