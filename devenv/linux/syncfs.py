"""syncfs(2), which Python lacks."""

from __future__ import annotations

import ctypes

from devenv.linux.libc import check, libc

libc.syncfs.argtypes = (ctypes.c_int,)


def syncfs(descriptor: int) -> None:
    """All that was written to the filesystem that ``descriptor`` is on survives a power cut from now on."""
    check(libc.syncfs(descriptor))
