"""seccomp(2): filters for the system calls of the calling process and of all that it starts."""

from __future__ import annotations

import ctypes
import os

from devenv.linux import syscalls
from devenv.linux.libc import check, libc

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2

SECCOMP_FILTER_FLAG_TSYNC = 1 << 0
SECCOMP_FILTER_FLAG_LOG = 1 << 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5

_INSTRUCTION = 8  # sizeof(struct sock_filter)


class sock_fprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _number() -> int:
    machine = os.uname().machine
    table = {"x86_64": "x86_64", "aarch64": "aarch64", "i686": "x86", "armv7l": "arm", "armv8l": "arm"}.get(machine)
    # 277 is every newer architecture's (asm-generic/unistd.h).
    return syscalls.numbers(table)["seccomp"] if table else 277


SYS_seccomp = _number()


def set_mode_filter(program: bytes, flags: int = 0) -> int:
    """``program`` is an array of ``struct sock_filter``. Returns the listener when one was asked for, else 0."""
    described = sock_fprog(len(program) // _INSTRUCTION, program)
    return check(libc.syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, ctypes.c_uint(flags), ctypes.byref(described)))


def get_action_avail(action: int) -> None:
    """Raises EOPNOTSUPP for one that the kernel doesn't know, ENOSYS or EINVAL where there are no filters at all."""
    value = ctypes.c_uint32(action)
    check(libc.syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, ctypes.c_uint(0), ctypes.byref(value)))
