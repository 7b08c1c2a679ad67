"""What a process says of itself: prctl(2), capabilities(7), keyctl(2), close_range(2)."""

from __future__ import annotations

import ctypes

from devenv.linux.libc import SYS_close_range, SYS_keyctl, check, libc

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

KEYCTL_JOIN_SESSION_KEYRING = 1

_CAPABILITY_VERSION_3 = 0x20080522


class _header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    return check(libc.prctl(option, arg2, arg3, arg4, arg5))


def capset(*, effective: int, permitted: int, inheritable: int) -> None:
    """The three sets as masks: bit n is capability n."""
    header = _header(_CAPABILITY_VERSION_3, 0)
    sets = (_data * 2)(
        *(_data(*(mask >> shift & 0xFFFFFFFF for mask in (effective, permitted, inheritable))) for shift in (0, 32))
    )
    check(libc.capset(ctypes.byref(header), ctypes.byref(sets)))


def join_new_session_keyring() -> None:
    """Leave the caller's session keyring for an anonymous one (keyctl(2))."""
    check(libc.syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, None, 0, 0, 0))


def close_range(first: int, last: int) -> None:
    """Close every descriptor from ``first`` to ``last``, both included."""
    check(libc.syscall(SYS_close_range, ctypes.c_uint(first), ctypes.c_uint(last), 0))
