"""fstatfs(2), for the one thing that ``os.fstatvfs`` leaves out: what kind of filesystem it is."""

from __future__ import annotations

import ctypes

from devenv.linux.libc import check, libc

PROC_SUPER_MAGIC = 0x9FA0
CGROUP2_SUPER_MAGIC = 0x63677270

libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)


def f_type(descriptor: int) -> int:
    # struct statfs begins with it, a long; the whole has 120 bytes on 64-bit machines.
    buffer = (ctypes.c_long * 32)()
    check(libc.fstatfs(descriptor, buffer))
    return int(buffer[0])
