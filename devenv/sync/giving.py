"""What a hand tells of its container: which files there are beneath a target, and their content. See ``wire``.

Nothing a container can put in the way leads out of the target: every path is looked up beneath it and follows no
link, and only regular files are opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from devenv.linux import openat2
from devenv.sync import wire

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_STRICT = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_NO_MAGICLINKS
_AT_ONCE = 300  # entries of a message


def listed(top: int, folders: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The messages that say what is in ``folders``; of one that is none, or has just gone, nothing."""
    entries: list[list[Any]] = []
    length = 0
    for folder in folders:
        with contextlib.suppress(OSError):
            for entry in _entries(top, folder):
                entries.append(entry)
                length += 6 * len(entry[1]) + 100
                if len(entries) >= _AT_ONCE or length > wire.LONGEST:
                    yield {"listed": entries, "more": True}
                    entries, length = [], 0
    yield {"listed": entries, "more": False}


def _entries(top: int, folder: str) -> Iterator[list[Any]]:
    opened = openat2.openat2(top, folder or ".", _FOLDER, resolve=_STRICT)
    try:
        for name in sorted(os.listdir(opened)):
            try:
                name.encode()
                status = os.lstat(name, dir_fd=opened)
            except (OSError, UnicodeEncodeError):
                continue  # it has gone, or no project has such a name
            path = f"{folder}/{name}" if folder else name
            if stat.S_ISDIR(status.st_mode):
                yield [wire.FOLDER, path, []]
            elif stat.S_ISREG(status.st_mode):
                yield [wire.FILE, path, seen(status)]
    finally:
        os.close(opened)


def seen(status: os.stat_result) -> list[int]:
    """What tells one state of a file from another: who writes it can't set its time of change."""
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, stat.S_IMODE(status.st_mode)]


def opened(top: int, paths: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
    """What each of ``paths`` is, None for what is no file, and descriptors of those that are."""
    found: list[list[int] | None] = []
    files: list[int] = []
    for path in paths:
        try:
            file = openat2.openat2(top, path, _READ, resolve=_STRICT)
        except OSError:
            found.append(None)
            continue
        status = os.fstat(file)
        if stat.S_ISREG(status.st_mode):
            found.append(seen(status))
            files.append(file)
        else:
            os.close(file)
            found.append(None)
    return {"opened": found}, files
