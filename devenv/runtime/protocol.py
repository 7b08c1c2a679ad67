"""Messages between the monitor and its clients: one JSON object a packet, descriptors beside it.

The socket is a SOCK_SEQPACKET one: a packet arrives whole or not at all, and descriptors (SCM_RIGHTS) arrive with the
packet they belong to. A request has an ``op`` and a ``seq``; its reply repeats the ``seq`` and has ``ok`` or ``error``.
What has an ``event`` comes unasked, to those that said ``subscribe``. ``docs/monitor.md`` has the table.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from typing import Any, NamedTuple

from devenv import errors

VERSION = 1
LIMIT = 128 * 1024  # a packet's bytes; below the default send buffer, so that one always fits
MAX_FDS = 8
KIND = socket.SOCK_SEQPACKET

# What an error of the runtime may carry besides: the code that a shell would give for what can't be executed.
_EXTRAS = ("container_exit_code",)

Message = dict[str, Any]


class ProtocolError(Exception):
    """The other side sent something that is no message. The connection is of no more use."""


class Packet(NamedTuple):
    message: Message
    fds: tuple[int, ...]  # the receiver's to close


def encode(message: Message) -> bytes:
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > LIMIT:
        raise ProtocolError(f"a message of {len(data)} bytes is over the limit of {LIMIT}")
    return data


def decode(data: bytes) -> Message:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"not JSON: {exc}") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"not an object but {type(message).__name__}")
    return message


def send(connection: socket.socket, data: bytes, fds: tuple[int, ...] = ()) -> None:
    """One packet. ``BlockingIOError`` when the connection doesn't block and the other side doesn't read."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> Packet | None:
    """None at the end. ``BlockingIOError`` when there is nothing yet and the connection doesn't block."""
    size = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
    data, ancillary, flags, _ = connection.recvmsg(LIMIT + 1, size, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(data) > LIMIT:
            raise ProtocolError("a message over the limit")
        if not data:
            close_all(tuple(fds))
            return None
        return Packet(decode(data), tuple(fds))
    except ProtocolError:
        close_all(tuple(fds))
        raise


def close_all(fds: tuple[int, ...] | list[int]) -> None:
    for descriptor in fds:
        try:
            os.close(descriptor)
        except OSError:
            pass


def peer_uid(connection: socket.socket) -> int:
    """Who connected, as the kernel knows it (unix(7)); mapped into our user namespace."""
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def error(exc: BaseException) -> Message:
    """What a failure becomes in a reply."""
    if isinstance(exc, errors.DevenvError):
        content = {"code": exc.code, "message": exc.message, "hint": exc.hint, "note": exc.note}
        return {**content, **{name: getattr(exc, name) for name in _EXTRAS if hasattr(exc, name)}}
    if isinstance(exc, OSError):
        place = f": `{exc.filename}`" if exc.filename else ""
        text = f"{exc.strerror or type(exc).__name__}{place}"
        return {"code": "os", "errno": exc.errno, "message": text, "hint": None, "note": None}
    return {"code": "internal", "message": f"{type(exc).__name__}: {exc}", "hint": None, "note": None}


def raise_error(content: Message) -> None:
    """The client's side of ``error``."""
    message = str(content.get("message"))
    code = content.get("code")
    kinds: tuple[type[errors.DevenvError], ...] = (errors.HostError, errors.ContainerError)
    kind = next((kind for kind in kinds if kind.code == code), errors.ContainerError)
    failure = kind(message, hint=content.get("hint"), note=content.get("note"))
    for name in _EXTRAS:
        if name in content:
            setattr(failure, name, content[name])
    raise failure
