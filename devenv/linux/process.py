"""What a process says of itself: prctl(2), capabilities(7), keyctl(2), close_range(2), personality(2), and how it is
scheduled: sched_setattr(2), ioprio_set(2), set_mempolicy(2)."""

from __future__ import annotations

import ctypes

from devenv.linux.libc import (
    SYS_close_range,
    SYS_ioprio_set,
    SYS_keyctl,
    SYS_sched_setattr,
    SYS_set_mempolicy,
    check,
    libc,
)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
IOPRIO_WHO_PROCESS = 1

KEYCTL_JOIN_SESSION_KEYRING = 1

_CAPABILITY_VERSION_3 = 0x20080522


class _header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


class sched_attr(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


libc.setfsuid.argtypes = (ctypes.c_uint,)
libc.setfsgid.argtypes = (ctypes.c_uint,)
libc.personality.argtypes = (ctypes.c_ulong,)
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


def permitted() -> int:
    """The caller's own permitted set. Asking for more with ``capset`` would fail as a whole.

    By capget(2) and not from /proc, which may be a container's.
    """
    header, sets = _header(_CAPABILITY_VERSION_3, 0), (_data * 2)()
    check(libc.capget(ctypes.byref(header), ctypes.byref(sets)))
    low, high = sets
    return int(low.permitted | high.permitted << 32)


def setfsuid(uid: int) -> None:
    """Of the caller's file system accesses. Leaving 0 takes the capabilities over files from the effective set."""
    libc.setfsuid(uid)
    # It returns what was before and never fails (setfsuid(2)): only asking again tells.
    if libc.setfsuid(0xFFFFFFFF) != _signed(uid):
        raise OSError(1, "the file system user can't be changed", "setfsuid")


def setfsgid(gid: int) -> None:
    libc.setfsgid(gid)
    if libc.setfsgid(0xFFFFFFFF) != _signed(gid):
        raise OSError(1, "the file system group can't be changed", "setfsgid")


def _signed(number: int) -> int:
    return ctypes.c_int(number).value


def join_new_session_keyring(name: str | None = None) -> None:
    """Leave the caller's session keyring for another: an anonymous one without a name (keyctl(2))."""
    check(libc.syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.encode() if name else None, 0, 0, 0))


def personality(persona: int) -> None:
    check(libc.personality(persona))


def sched_setattr(
    *,
    policy: int,
    flags: int = 0,
    nice: int = 0,
    priority: int = 0,
    runtime: int = 0,
    deadline: int = 0,
    period: int = 0,
) -> None:
    """For the calling thread."""
    attr = sched_attr(ctypes.sizeof(sched_attr), policy, flags, nice, priority, runtime, deadline, period)
    check(libc.syscall(SYS_sched_setattr, 0, ctypes.byref(attr), 0))


def ioprio_set(which: int, who: int, priority: int) -> None:
    check(libc.syscall(SYS_ioprio_set, which, who, priority))


def set_mempolicy(mode: int, nodes: int) -> None:
    """``nodes`` is a mask of memory nodes: bit n is node n."""
    if not nodes:
        check(libc.syscall(SYS_set_mempolicy, mode, None, 0))
        return
    words = nodes.bit_length() // 64 + 1
    mask = (ctypes.c_uint64 * words)(*(nodes >> 64 * word & 0xFFFFFFFFFFFFFFFF for word in range(words)))
    # The kernel reads one bit less than it is told of (set_mempolicy(2), "BUGS" of the interface since 2.6).
    check(libc.syscall(SYS_set_mempolicy, mode, mask, ctypes.c_ulong(words * 64 + 1)))


def close_range(first: int, last: int) -> None:
    """Close every descriptor from ``first`` to ``last``, both included."""
    check(libc.syscall(SYS_close_range, ctypes.c_uint(first), ctypes.c_uint(last), 0))
