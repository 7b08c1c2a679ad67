"""renameat2(2): two names that change places at once."""

from __future__ import annotations

import ctypes
import os

from devenv.linux.libc import check, libc

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

libc.renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


def exchange(one: str, other: str) -> None:
    check(libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE), one)
