"""openat2(2): paths that are resolved beneath a folder, whatever symbolic links lie in the way."""

from __future__ import annotations

import ctypes
import os

from devenv.linux.libc import SYS_openat2, check, libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


class open_how(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(dirfd: int, path: str, flags: int, *, mode: int = 0, resolve: int) -> int:
    how = open_how(flags, mode, resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    return check(libc.syscall(SYS_openat2, dirfd, os.fsencode(path), ctypes.byref(how), size), path)


def in_root(root: int, path: str, flags: int, *, mode: int = 0) -> int:
    """``path`` as a process sees it that has ``root`` for its root: no link and no ``..`` leads out."""
    return openat2(
        root,
        path,
        flags | os.O_CLOEXEC,
        mode=mode,
        resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    )
