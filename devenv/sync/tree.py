"""What a watched folder looked like when it was looked at last: one number a file, so that 50,000 are a few megabytes.

Events only say where to look. What has changed is what differs from the last look, so an event that is lost, comes
twice or comes late changes nothing in the end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

Skip = Callable[[str, bool], bool]

_FOLDER = 0


class Tree:
    """Beneath ``root``, which may be a file or not be there. Paths are absolute; links are not followed.

    ``skip(path, is_folder)``: what is left out. Not safe for several threads at once.
    """

    def __init__(self, root: str, skip: Skip) -> None:
        self.root = root
        self._skip = skip
        self._folders: dict[str, dict[str, int]] = {}  # folder -> name -> signature
        self._self: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self._folders.values()))

    def __contains__(self, path: str) -> bool:
        if path == self.root:
            return self._self is not None
        folder, _, name = path.rpartition("/")
        return name in self._folders.get(folder, ())

    def paths(self, top: str | None = None) -> Iterator[str]:
        """All that is known beneath ``top``, folders before what is in them, ``top`` itself left out."""
        for name, signature in self._folders.get(top or self.root, {}).items():
            path = f"{top or self.root}/{name}"
            yield path
            if signature == _FOLDER:
                yield from self.paths(path)

    def folders(self) -> list[str]:
        return list(self._folders)

    def look(self, path: str, *, deep: bool = False) -> list[str]:
        """Look at ``path`` again; what has changed there, what is gone included. ``deep``: and in all beneath it."""
        if path != self.root and self._is_left_out(path):
            return []
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return self._forget(path)
        except OSError:
            return []  # can't be seen: not known to be gone either
        before = self._get(path)
        now = signature(status)
        if now != _FOLDER:
            gone = self._forget(path) if before == _FOLDER else []
            self._set(path, now)
            return [*gone, path] if before != now and path not in gone else gone
        self._set(path, now)
        changed = [path] if before != _FOLDER else []
        if deep or before != _FOLDER or path not in self._folders:
            changed += self._walk(path)
        return changed

    # -- inside -------------------------------------------------------------------------------------------------

    def _is_left_out(self, path: str) -> bool:
        """Whether it, or a folder that it is in, is skipped."""
        folder = os.path.dirname(path)
        unseen = folder != self.root and folder not in self._folders and folder.startswith(f"{self.root}/")
        # A folder that was never seen: is it new, or one that is left out?
        if unseen and (self._is_left_out(folder) or self._skip(folder, True)):
            return True
        try:
            return self._skip(path, stat.S_ISDIR(os.lstat(path).st_mode))
        except OSError:
            return False

    def _get(self, path: str) -> int | None:
        if path == self.root:
            return self._self
        folder, _, name = path.rpartition("/")
        return self._folders.get(folder, {}).get(name)

    def _set(self, path: str, value: int) -> None:
        if path == self.root:
            self._self = value
            return
        folder, _, name = path.rpartition("/")
        self._folders.setdefault(folder, {})[name] = value

    def _forget(self, path: str) -> list[str]:
        before = self._get(path)
        if before is None:
            return []
        gone = [path]
        for inner in list(self._folders.get(path, ())):
            gone += self._forget(f"{path}/{inner}")
        self._folders.pop(path, None)
        if path == self.root:
            self._self = None
        else:
            folder, _, name = path.rpartition("/")
            self._folders.get(folder, {}).pop(name, None)
        return gone

    def _walk(self, top: str) -> list[str]:
        changed: list[str] = []
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            known = self._folders.setdefault(folder, {})
            found: dict[str, int] = {}
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        value = self._seen(entry, f"{folder}/{entry.name}")
                        if value is not None:
                            found[entry.name] = value
            except NotADirectoryError:
                continue
            except FileNotFoundError:
                found = {}
            except OSError:
                continue  # not to be read: what is known of it stays
            for name in [name for name in known if name not in found]:
                changed += self._forget(f"{folder}/{name}")
            for name, value in found.items():
                path = f"{folder}/{name}"
                before = known.get(name)
                if before != value:
                    if before == _FOLDER:
                        changed += [gone for gone in self._forget(path) if gone != path]
                    changed.append(path)
                known[name] = value
                if value == _FOLDER:
                    waiting.append(path)
        return changed

    def _seen(self, entry: os.DirEntry[str], path: str) -> int | None:
        try:
            if self._skip(path, entry.is_dir(follow_symlinks=False)):
                return None
            return signature(entry.stat(follow_symlinks=False))
        except OSError:
            return None


def signature(status: os.stat_result) -> int:
    """Zero for a folder. The hash of a tuple of numbers is the same in every process."""
    if stat.S_ISDIR(status.st_mode):
        return _FOLDER
    return hash((status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)) or 1
