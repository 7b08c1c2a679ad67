"""execveat(2): run a program by its descriptor."""

from __future__ import annotations

import ctypes
import os

from devenv.linux.libc import SYS_execveat, check, libc

AT_EMPTY_PATH = 0x1000


def execveat(descriptor: int, args: list[str], env: list[str]) -> None:
    """Returns never; raises ``OSError``."""
    argv = (ctypes.c_char_p * (len(args) + 1))(*(os.fsencode(each) for each in args), None)
    envp = (ctypes.c_char_p * (len(env) + 1))(*(os.fsencode(each) for each in env), None)
    check(libc.syscall(SYS_execveat, descriptor, b"", argv, envp, AT_EMPTY_PATH))
