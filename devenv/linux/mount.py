"""mount(2) and the newer mount API: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2)."""

from __future__ import annotations

import ctypes
import os

from devenv.linux.libc import (
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fsopen,
    SYS_mount_setattr,
    SYS_move_mount,
    SYS_open_tree,
    SYS_pivot_root,
    check,
    libc,
)

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6


class mount_attr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(source: str, target: str, fstype: str, flags: int, data: str = "") -> None:
    check(
        libc.mount(
            os.fsencode(source), os.fsencode(target), fstype.encode(), flags, os.fsencode(data) if data else None
        ),
        target,
    )


def umount2(target: str, flags: int) -> None:
    check(libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    check(libc.syscall(SYS_pivot_root, os.fsencode(new_root), os.fsencode(put_old)), new_root)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    return check(libc.syscall(SYS_open_tree, dirfd, os.fsencode(path), flags), path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    check(libc.syscall(SYS_move_mount, from_fd, os.fsencode(from_path), to_fd, os.fsencode(to_path), flags), to_path)


def mount_setattr(
    dirfd: int,
    path: str,
    flags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    attr = mount_attr(attr_set, attr_clr, propagation, userns_fd)
    check(
        libc.syscall(
            SYS_mount_setattr,
            dirfd,
            os.fsencode(path),
            flags,
            ctypes.byref(attr),
            ctypes.c_size_t(ctypes.sizeof(attr)),
        ),
        path,
    )


def fsopen(fstype: str) -> int:
    return check(libc.syscall(SYS_fsopen, fstype.encode(), FSOPEN_CLOEXEC), fstype)


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    check(
        libc.syscall(
            SYS_fsconfig,
            fd,
            command,
            None if key is None else key.encode(),
            None if value is None else os.fsencode(value),
            0,
        ),
        value or key,
    )


def fsmount(fd: int, attributes: int) -> int:
    return check(libc.syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes))
