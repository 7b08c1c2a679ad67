"""What is said to a hand (``devenv.sync.hand``) over a SOCK_SEQPACKET pair, one JSON value a message.

    supervisor                                   hand
       | {"target": …, "entries": […]} + files ----> |   at most AHEAD of them without an answer
       | <- {"changed": […], "failed": […] } --------+   one for each, in order
       | end of file -----------------------------> |   it goes

    supervisor                                   hand
       | {"target": …, "list": [folders]} --------> |
       | <- {"listed": [[kind, path, seen]], "more"} +   as many as it takes; ``seen`` is of ``giving``
       | {"target": …, "open": [paths]} ----------> |   at most FILES
       | <- {"opened": [seen or null]} + files ------+

An entry says what is to be at a path beneath the target, as a list that begins with its kind:

    FOLDER  path mode
    FILE    path mode size mtime fresh inside kept [seen]    with a descriptor of its content, in the same order
    LINK    path where-it-leads
    GONE    path inside [seen]

``mtime`` is in nanoseconds; ``fresh`` says that the file is so young that equal times prove nothing. ``inside`` is the
name in a folder that is found in the place of a file, "" where the folder has to give way. ``kept`` says that it was
written where it is, and not put in another file's place. FILE and GONE may have one more, what was ``seen`` of the
container's own file: where that is another one by now, nothing is done, and ESTALE says so.
"""

from __future__ import annotations

import array
import json
import os
import socket
from typing import Any, NamedTuple

FOLDER, FILE, LINK, GONE = "d", "f", "l", "x"

AHEAD = 4
# Descriptors in a message: SCM_MAX_FD of the kernel is 253.
FILES = 120
# Bytes of a message; the kernel's default buffer takes three times as much.
LONGEST = 60_000

Entry = list[Any]


class Message(NamedTuple):
    value: Any
    files: tuple[int, ...]


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def send(to: socket.socket, data: bytes, files: tuple[int, ...] | list[int] = ()) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    to.sendmsg([data], rights)


def receive(at: socket.socket) -> Message | None:
    """None at the end of file."""
    room = socket.CMSG_SPACE(FILES * array.array("i").itemsize)
    data, ancillary, flags, _ = at.recvmsg(1 << 18, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(payload)
    if not data:
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for descriptor in numbers:
            os.close(descriptor)
        raise ValueError("a message was cut")
    return Message(json.loads(data), tuple(numbers))
