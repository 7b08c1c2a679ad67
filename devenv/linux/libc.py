"""The C library, and the one way from its return value to an ``OSError``."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

_MACHINE = os.uname().machine
# Numbers that differ by architecture; those above 423 are the same everywhere (asm-generic/unistd.h).
SYS_pivot_root = {"x86_64": 155, "aarch64": 41}.get(_MACHINE, 155)
SYS_keyctl = {"x86_64": 250, "aarch64": 219}.get(_MACHINE, 250)
SYS_open_tree = 428
SYS_move_mount = 429
SYS_fsopen = 430
SYS_fsconfig = 431
SYS_fsmount = 432
SYS_close_range = 436
SYS_openat2 = 437
SYS_mount_setattr = 442


def check(result: int, path: str | bytes | None = None) -> int:
    """``result``, unless it is negative: then errno becomes an ``OSError`` that names ``path``."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result
