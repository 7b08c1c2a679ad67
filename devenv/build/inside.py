"""Paths within a root that others filled: what they name there, whatever links lie in the way.

``canonical`` follows links as a process with that root would, also through what isn't there yet, and gives a path
without links. Such a path is then opened with ``openat2`` so that a link that somebody puts there meanwhile is an
error and never leads anywhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from devenv.linux import openat2

LINK_LIMIT = 255  # as containerd's RootPath

_RESOLVE = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_NO_MAGICLINKS


def canonical(root: int, path: str, *, follow: bool = True, seen: Callable[[str], None] | None = None) -> str:
    """``path`` without links and ``..``, relative to the root; "" is the root.

    ``follow``: also the last component; ``seen`` is told of every link on the way. What isn't there is taken as
    written. Raises ``OSError`` with ELOOP.
    """
    pending = [part for part in reversed(path.split("/")) if part not in {"", "."}]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        here = "/".join((*done, part))
        link = _link(root, here) if pending or follow else None
        if link is None:
            done.append(part)
            continue
        if seen is not None:
            seen(here)
        links += 1
        if links > LINK_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if link.startswith("/"):
            done.clear()
        pending += [each for each in reversed(link.split("/")) if each not in {"", "."}]
    return "/".join(done)


def opened(root: int, path: str, flags: int) -> int:
    """A canonical path. Raises ``OSError``."""
    return openat2.openat2(root, path or ".", flags | os.O_CLOEXEC | os.O_NOFOLLOW, resolve=_RESOLVE)


def folder(root: int, path: str) -> int:
    """To list, and for names in it."""
    return opened(root, path, os.O_RDONLY | os.O_DIRECTORY)


def status(root: int, path: str) -> os.stat_result:
    found = opened(root, path, os.O_PATH)
    try:
        return os.fstat(found)
    finally:
        os.close(found)


def exists(root: int, path: str) -> bool:
    try:
        status(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_folder(root: int, path: str) -> bool:
    return exists(root, path) and stat.S_ISDIR(status(root, path).st_mode)


def _link(root: int, path: str) -> str | None:
    try:
        found = opened(root, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if not stat.S_ISLNK(os.fstat(found).st_mode):
            return None
        return os.readlink("", dir_fd=found)
    finally:
        os.close(found)


class Folders:
    """Opens the folders that files are in, and keeps the last one open: files come sorted by their paths."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: str | None = None
        self._fd = -1

    def parent(self, path: str) -> tuple[int, str]:
        """The folder that a canonical path is in, and its name there; ``.`` for the root."""
        above, _, name = path.rpartition("/")
        if above != self._path:
            opened_folder = folder(self._root, above)
            self.close()
            self._path, self._fd = above, opened_folder
        return self._fd, name or "."

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._path, self._fd = None, -1

    def __enter__(self) -> Folders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
