"""A new volume begins with what the image has in its place: owners, modes, times, links and attributes too."""

from __future__ import annotations

import contextlib
import os
import stat

_CHUNK = 1 << 20


def fill(volume: str, folder: int) -> None:
    """Copy the contents of ``folder``, a descriptor, into ``volume`` if that is empty; and its owner and mode.

    Called in the container's mount namespace, before the volume is mounted over the folder.
    """
    if os.listdir(volume):
        return
    source = os.open(f"/proc/self/fd/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    target = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _copy_folder(source, target)
    finally:
        os.close(source)
        os.close(target)


def _copy_folder(source: int, target: int) -> None:
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner, made = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target)
            try:
                _copy_folder(inner, made)
            finally:
                os.close(inner)
                os.close(made)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISREG(found.st_mode):
            _copy_file(source, target, name, found)
        else:
            with contextlib.suppress(PermissionError):
                os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
                os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    _copy_attributes(source, target)


def _copy_file(source: int, target: int, name: str, found: os.stat_result) -> None:
    inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        left = found.st_size
        while left > 0:
            sent = os.sendfile(made, inner, None, min(left, _CHUNK))
            if not sent:
                break
            left -= sent
        _copy_attributes(inner, made)
    finally:
        os.close(inner)
        os.close(made)


def _copy_attributes(source: int, target: int) -> None:
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            if not name.startswith(("trusted.overlay.", "user.overlay.")):
                os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
