"""Files to a tar stream, from beneath one root: for `cp`, `export` and `commit`.

Every name is opened from an open folder without following it, so whoever changes the tree meanwhile leads nowhere.
What vanishes on the way is left out; a file that shrinks is filled up with zeros, one that grows is cut, for its
header has gone by then. Owners are numbers: no name service is asked.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

from devenv.linux import openat2
from devenv.util import tarinfo

CHUNK = 1 << 20

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Found(NamedTuple):
    """A path beneath a root."""

    parent: int  # to close
    name: str  # "." for the root itself and for what ends in `/.`
    status: os.stat_result

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def find(root: int, path: str, *, follow: bool) -> Found:
    """What is at ``path``. With ``follow`` a link there is followed, as it is where the path ends in a slash."""
    trimmed = path.rstrip("/") or "/"
    if trimmed == "/" or os.path.basename(trimmed) in {".", ".."}:
        parent = openat2.in_root(root, trimmed, os.O_PATH | os.O_DIRECTORY)
        return Found(parent, ".", os.stat(".", dir_fd=parent))
    if follow or path.endswith("/"):
        trimmed = resolved(root, trimmed)
    parent = openat2.in_root(root, os.path.dirname(trimmed) or "/", os.O_PATH | os.O_DIRECTORY)
    name = os.path.basename(trimmed)
    try:
        status = os.lstat(name, dir_fd=parent)
        if path.endswith("/") and not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(20, os.strerror(20), path)
    except OSError as exc:
        os.close(parent)
        raise type(exc)(exc.errno, exc.strerror, path) from exc
    return Found(parent, name, status)


def resolved(root: int, path: str) -> str:
    """Where the links at the end of ``path`` lead, beneath the root."""
    for _ in range(40):
        parent = openat2.in_root(root, os.path.dirname(path) or "/", os.O_PATH | os.O_DIRECTORY)
        try:
            target = os.readlink(os.path.basename(path), dir_fd=parent)
        except OSError:
            return path
        finally:
            os.close(parent)
        # `..` may climb out of where a link has led: that is for openat2 to resolve, step by step.
        path = target if target.startswith("/") else f"{os.path.dirname(path)}/{target}"
        path = path.rstrip("/") or "/"
    raise OSError(40, os.strerror(40), path)


class _Out:
    """Complains once of a reader that is gone: tarfile writes what it has left when it is thrown away, too."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._gone = False

    def write(self, data: bytes, /) -> int:
        if self._gone:
            return len(data)
        try:
            return self._out.write(data)
        except BrokenPipeError:
            self._gone = True
            raise


class Packer:
    """Writes trees to one archive."""

    def __init__(self, out: BinaryIO, *, crossing: Callable[[str], bool] | None = None, xattrs: bool = True) -> None:
        """``crossing``: whether to go into what is mounted at a path of the archive; None for always."""
        told = cast(BinaryIO, _Out(out))  # whatever can be written to does
        self._archive = tarfile.open(fileobj=told, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115  see close()
        self._crossing = crossing
        self._xattrs = xattrs
        self._links: dict[tuple[int, int], str] = {}

    def close(self) -> None:
        self._archive.close()

    def folder(self, path: str, name: str) -> None:
        """What is in a folder of this machine; ``name`` as in ``tree``."""
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.tree(find(root, "/", follow=False), name)
        finally:
            os.close(root)

    def tree(self, found: Found, name: str) -> None:
        """All beneath ``found``, called ``name`` in the archive; "" for what is in it alone."""
        if not found.is_folder:
            self._add(found.parent, found.name, name, found.status)
            return
        if name:
            self._header(name, found.status, found.parent, found.name)
        top = os.open(found.name, _FOLDER, dir_fd=found.parent)
        device = found.status.st_dev
        stack: list[tuple[int, str, int, Iterator[str]]] = [(top, name, device, iter(sorted(os.listdir(top))))]
        try:
            while stack:
                folder, prefix, device, names = stack[-1]
                each = next(names, None)
                if each is None:
                    os.close(stack.pop()[0])
                    continue
                inner = f"{prefix}/{each}" if prefix else each
                entered = self._entry(folder, each, inner, device)
                if entered is not None:
                    stack.append(entered)
        finally:
            for folder, *_ in stack:
                os.close(folder)

    def _entry(self, folder: int, name: str, path: str, device: int) -> tuple[int, str, int, Iterator[str]] | None:
        try:
            status = os.lstat(name, dir_fd=folder)
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(status.st_mode):
            self._add(folder, name, path, status)
            return None
        self._header(path, status, folder, name)
        if self._crossing is not None and status.st_dev != device and not self._crossing(path):
            return None
        try:
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            return None
        return inner, path, status.st_dev, iter(sorted(os.listdir(inner)))

    def _add(self, folder: int, name: str, path: str, status: os.stat_result) -> None:
        if stat.S_ISSOCK(status.st_mode):
            return  # a tar archive has no word for it
        if not stat.S_ISREG(status.st_mode):
            self._header(path, status, folder, name)
            return
        known = self._links.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if known is not None:
            made = self._info(path, status)
            made.type, made.linkname, made.size = tarfile.LNKTYPE, known, 0
            self._archive.addfile(made)
            return
        resolve = openat2.RESOLVE_NO_SYMLINKS | (openat2.RESOLVE_NO_XDEV if self._crossing is not None else 0)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
        try:
            file = openat2.openat2(folder, name, flags, resolve=resolve)
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno != 18:  # EXDEV: a file that is mounted; what it hides is an empty one
                raise OSError(exc.errno, exc.strerror, path) from exc
            made = self._info(path, status)
            made.size = 0
            self._archive.addfile(made)
            return
        with open(file, "rb", buffering=0) as opened:
            now = os.fstat(file)
            if not stat.S_ISREG(now.st_mode):
                return
            made = self._info(path, now)
            made.pax_headers = self._attributes(file)
            self._archive.addfile(made, _Exactly(opened, now.st_size))
        if now.st_nlink > 1:
            self._links[now.st_dev, now.st_ino] = path

    def _header(self, path: str, status: os.stat_result, folder: int, name: str) -> None:
        made = self._info(path, status)
        if stat.S_ISLNK(status.st_mode):
            made.linkname = os.readlink(name, dir_fd=folder)
        elif stat.S_ISDIR(status.st_mode) and self._xattrs:
            opened = os.open(name, _FOLDER, dir_fd=folder)
            made.pax_headers = self._attributes(opened)
            os.close(opened)
        self._archive.addfile(made)

    def _info(self, path: str, status: os.stat_result) -> tarfile.TarInfo:
        made = tarinfo.of(path, status)
        if status.st_mtime_ns % 10**9:
            made.mtime = status.st_mtime_ns / 1e9
        return made

    def _attributes(self, file: int) -> dict[str, str]:
        """Capabilities and what users have set. The overlay's own are no part of the files."""
        if not self._xattrs:
            return {}
        found = {}
        for name in os.listxattr(file):
            if name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay.")):
                found[f"SCHILY.xattr.{name}"] = os.getxattr(file, name).decode("utf-8", "surrogateescape")
        return found


class _Exactly:
    """``size`` bytes of a file, whatever becomes of it meanwhile."""

    def __init__(self, file: Any, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        wanted = min(size, self._left)
        data: bytes = self._file.read(wanted)
        if len(data) < wanted:
            data += b"\0" * (wanted - len(data))
        self._left -= len(data)
        return data
