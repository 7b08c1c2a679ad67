"""namespaces(7): unshare(2), setns(2), sethostname(2), and whether this is the initial user namespace."""

from __future__ import annotations

import ctypes

from devenv.linux.libc import check, libc

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

libc.unshare.argtypes = (ctypes.c_int,)
libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
libc.sethostname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
libc.setdomainname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)


def unshare(flags: int) -> None:
    check(libc.unshare(flags))


def setns(fd: int, nstype: int) -> None:
    check(libc.setns(fd, nstype))


def sethostname(name: str) -> None:
    data = name.encode()
    check(libc.sethostname(data, len(data)))


def setdomainname(name: str) -> None:
    data = name.encode()
    check(libc.setdomainname(data, len(data)))


def in_initial_user_namespace() -> bool:
    """Only the initial one maps every id onto itself (user_namespaces(7))."""
    with open("/proc/self/uid_map") as file:
        return file.read().split() == ["0", "0", "4294967295"]
