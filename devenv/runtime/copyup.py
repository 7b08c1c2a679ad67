"""A new volume begins with what the image has in its place: owners, modes, times, links and attributes too."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from devenv.linux import reflink

_CHUNK = 1 << 20


def fill(volume: str, folder: int) -> None:
    """Copy the contents of ``folder``, a descriptor, into ``volume`` if that is empty; and its owner and mode.

    Called in the container's mount namespace, before the volume is mounted over the folder.
    """
    _fill(volume, folder, overlay=False)


def duplicate(layer: str, folder: int) -> None:
    """The same for an overlay's own folder: with its whiteouts, and with what it says of folders."""
    _fill(layer, folder, overlay=True)


def _fill(volume: str, folder: int, *, overlay: bool) -> None:
    if os.listdir(volume):
        return
    source = os.open(f"/proc/self/fd/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    target = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _Copy(target, overlay=overlay).folder(source, target, "")
    finally:
        os.close(source)
        os.close(target)


class _Copy:
    def __init__(self, top: int, *, overlay: bool) -> None:
        self._top = top
        self._left_out = () if overlay else ("trusted.overlay.", "user.overlay.")
        self._links: dict[tuple[int, int], str] = {}  # what has other names, too -> where it is, from the top

    def folder(self, source: int, target: int, path: str) -> None:
        for name in os.listdir(source):
            found = os.stat(name, dir_fd=source, follow_symlinks=False)
            place = f"{path}{name}"
            if stat.S_ISDIR(found.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner, made = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target)
                try:
                    self.folder(inner, made, f"{place}/")
                finally:
                    os.close(inner)
                    os.close(made)
            elif found.st_nlink > 1 and (found.st_dev, found.st_ino) in self._links:
                first = self._links[found.st_dev, found.st_ino]
                os.link(first, name, src_dir_fd=self._top, dst_dir_fd=target, follow_symlinks=False)
            else:
                self._other(source, target, name, found)
                if found.st_nlink > 1 and stat.S_ISREG(found.st_mode):
                    self._links[found.st_dev, found.st_ino] = place
        self._attributes(source, target)

    def _other(self, source: int, target: int, name: str, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISREG(found.st_mode):
            self._file(source, target, name, found)
        else:
            with contextlib.suppress(PermissionError):
                os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
                os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)

    def _file(self, source: int, target: int, name: str, found: os.stat_result) -> None:
        inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            _copy_content(inner, made, found.st_size)
            self._attributes(inner, made)
        finally:
            os.close(inner)
            os.close(made)

    def _attributes(self, source: int, target: int) -> None:
        found = os.fstat(source)
        os.fchown(target, found.st_uid, found.st_gid)
        os.fchmod(target, stat.S_IMODE(found.st_mode))
        with contextlib.suppress(OSError):
            for name in os.listxattr(source):
                if not name.startswith(self._left_out):
                    os.setxattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _copy_content(source: int, target: int, size: int) -> None:
    try:
        reflink.clone(source, target)
        return
    except OSError:
        pass  # which filesystems can, and between which files, is theirs to say
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            break  # the rest is a hole
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        left = end - start
        while left > 0:
            sent = os.sendfile(target, source, None, min(left, _CHUNK))
            if not sent:
                return
            left -= sent
    os.ftruncate(target, size)
