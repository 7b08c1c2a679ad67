"""Network namespaces: setns(2) and unshare(2), which move the calling thread and no other."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace that ``fd`` refers to."""
    if _libc.setns(fd, CLONE_NEWNET) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "setns")


def unshare() -> None:
    """Give the calling thread a new network namespace, which holds nothing but a loopback that is down."""
    if _libc.unshare(CLONE_NEWNET) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "unshare")
