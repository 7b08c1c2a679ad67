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
SYS_ioprio_set = {"x86_64": 251, "aarch64": 30}.get(_MACHINE, 251)
SYS_sched_setattr = {"x86_64": 314, "aarch64": 274}.get(_MACHINE, 314)
SYS_set_mempolicy = {"x86_64": 238, "aarch64": 237}.get(_MACHINE, 238)
SYS_bpf = {"x86_64": 321, "aarch64": 280}.get(_MACHINE, 321)
SYS_execveat = {"x86_64": 322, "aarch64": 281}.get(_MACHINE, 322)
SYS_statx = {"x86_64": 332, "aarch64": 291}.get(_MACHINE, 332)
SYS_open_tree = 428
SYS_move_mount = 429
SYS_fsopen = 430
SYS_fsconfig = 431
SYS_fsmount = 432
SYS_close_range = 436
SYS_openat2 = 437
SYS_mount_setattr = 442
SYS_quotactl_fd = 443


def check(result: int, path: str | bytes | None = None) -> int:
    """``result``, unless it is negative: then errno becomes an ``OSError`` that names ``path``."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result
