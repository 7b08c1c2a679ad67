"""Removing folders that others filled: nothing outside is touched, whatever links, names, modes or depth they chose.

Every step goes from an open folder to a name in it, so a path that somebody swaps for a symbolic link leads nowhere.
Folders nested deeper than ``DEPTH`` are renamed to the top first: neither the number of open files nor the length of a
path limits what can be removed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

DEPTH = 48

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_Name = str | bytes


def remove(path: str) -> None:
    """Remove whatever is at ``path``, if anything is. Mount points are not entered: ``OSError`` with EBUSY says so."""
    folder, name = os.path.split(os.path.abspath(path))
    try:
        parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_at(parent, name)
    except FileNotFoundError:
        pass
    finally:
        os.close(parent)


def remove_at(parent: int, name: _Name) -> None:
    """The same for ``name`` in the open folder ``parent``. Raises ``FileNotFoundError`` if it isn't there."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except (IsADirectoryError, PermissionError):  # EPERM on some filesystems: unlink(2)
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            raise
    top = _open(parent, name)
    try:
        _Emptier(top).run()
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _open(parent: int, name: _Name) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        # A folder without r or x for its owner. fchmodat(2) follows links, so it is only done to what is a folder;
        # nobody can swap it in a tree that is being thrown away by its only owner.
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            raise
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, _FOLDER, dir_fd=parent)


class _Emptier:
    def __init__(self, top: int) -> None:
        self._top = top
        self._device = os.fstat(top).st_dev
        self._hoisted = 0

    def run(self) -> None:
        while entries := _listed(self._top):
            self._empty(self._top, entries, 0)

    def _empty(self, folder: int, entries: list[tuple[str, bool]], depth: int) -> None:
        for name, is_folder in entries:
            if not is_folder:
                _mended(folder, os.unlink, name)
            elif depth < DEPTH:
                self._descend(folder, name, depth)
            else:
                # The top is listed again until nothing is left in it.
                self._hoisted += 1
                os.rename(name, f".removing-{os.getpid()}-{self._hoisted}", src_dir_fd=folder, dst_dir_fd=self._top)

    def _descend(self, folder: int, name: str, depth: int) -> None:
        try:
            child = _open(folder, name)
        except FileNotFoundError:
            return
        try:
            if os.fstat(child).st_dev != self._device:
                raise OSError(errno.EBUSY, "is a mount point", name)
            self._empty(child, _listed(child), depth + 1)
        finally:
            os.close(child)
        _mended(folder, os.rmdir, name)


def _listed(folder: int) -> list[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _mended(folder: int, remove: Callable[..., None], name: str) -> None:
    try:
        remove(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except PermissionError:
        # The folder itself may lack w for its owner; the mode of an open folder can be changed.
        os.fchmod(folder, 0o700)
        remove(name, dir_fd=folder)
