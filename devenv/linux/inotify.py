"""inotify(7): be told of changes in a folder. The standard library has no wrapper."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

from devenv.linux.libc import check, libc

IN_MODIFY = 0x002
IN_MOVED_FROM = 0x040
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC

_HEAD = struct.Struct("iIII")
libc.inotify_init1.argtypes = (ctypes.c_int,)
libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
libc.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)


class Event(NamedTuple):
    wd: int
    mask: int
    name: str


def inotify_init1(flags: int) -> int:
    return check(libc.inotify_init1(flags))


def inotify_add_watch(descriptor: int, path: str, mask: int) -> int:
    return check(libc.inotify_add_watch(descriptor, os.fsencode(path), mask), path)


def inotify_rm_watch(descriptor: int, watch: int) -> None:
    check(libc.inotify_rm_watch(descriptor, watch))


def read(descriptor: int) -> list[Event]:
    """What has happened; ``[]`` when nothing has and the descriptor doesn't block."""
    try:
        data = os.read(descriptor, 64 * 1024)
    except BlockingIOError:
        return []
    events, position = [], 0
    while position < len(data):
        wd, mask, _cookie, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        name = data[position : position + length].rstrip(b"\0")
        position += length
        events.append(Event(wd, mask, os.fsdecode(name)))
    return events
