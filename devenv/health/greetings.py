"""Whether a server of a known protocol takes work: what is said to it first, and what its answer means.

A port that accepts is no database that answers: Postgres listens while it recovers, Redis while it loads. No name and
no password is needed: being refused for the lack of one is an answer of a server that is ready.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

_LIMIT = 4096


class NotReady(Exception):
    """Why not, in a few words."""


def _read(connection: socket.socket, least: int) -> bytes:
    data = b""
    while len(data) < least:
        chunk = connection.recv(_LIMIT)
        if not chunk:
            raise NotReady("it hung up")
        data += chunk
    return data


def postgres(connection: socket.socket) -> None:
    """As pg_isready(1): a startup packet; every answer counts but that it is starting or shutting down (57P03)."""
    # The names that most servers know: to be asked about others they note in their logs.
    parameters = b"user\0postgres\0database\0postgres\0\0"
    connection.sendall(struct.pack("!ii", len(parameters) + 8, 196608) + parameters)
    answer = _read(connection, 5)
    if answer[:1] == b"R":
        return
    if answer[:1] != b"E":
        raise NotReady("it does not speak Postgres's protocol")
    answer += _read(connection, struct.unpack("!i", answer[1:5])[0] + 1 - len(answer))
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in answer[5:].split(b"\0") if part}
    if fields.get(b"C") == "57P03":
        raise NotReady(fields.get(b"M", "it is starting"))


def mysql(connection: socket.socket) -> None:
    """The server speaks first: its handshake, or an error packet."""
    answer = _read(connection, 5)
    if answer[4] == 0xFF:
        code = int.from_bytes(_read_more(connection, answer, 7)[5:7], "little")
        # 1129 and 1130: this host may not connect, which a server that is ready says.
        if code not in {1129, 1130}:
            raise NotReady(f"it answers with error {code}")
    elif answer[4] not in {9, 10}:
        raise NotReady("it does not speak MySQL's protocol")


def _read_more(connection: socket.socket, data: bytes, least: int) -> bytes:
    return data + _read(connection, least - len(data)) if len(data) < least else data


def redis(connection: socket.socket) -> None:
    connection.sendall(b"*1\r\n$4\r\nPING\r\n")
    answer = _read(connection, 5)
    # Refused for want of a password, or by its protected mode, is an answer, too.
    if not answer.startswith((b"+PONG", b"-NOAUTH", b"-NOPER", b"-DENIED", b"-ERR operation not permitted")):
        raise NotReady(answer.split(b"\r\n")[0].decode("utf-8", "replace").lstrip("-"))


def rabbitmq(connection: socket.socket) -> None:
    """AMQP 0-9-1: the protocol's header is answered by a method frame, connection.start."""
    connection.sendall(b"AMQP\x00\x00\x09\x01")
    answer = _read(connection, 4)
    if answer[:1] != b"\x01" and answer[:4] != b"AMQP":
        raise NotReady("it does not speak AMQP")


def mongodb(connection: socket.socket) -> None:
    """An OP_MSG with `ping`; any whole OP_MSG in answer will do."""
    document = b"\x10ping\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00"
    body = struct.pack("<i", len(document) + 5) + document + b"\x00"
    connection.sendall(struct.pack("<iiii", 21 + len(body), 1, 0, 2013) + b"\x00\x00\x00\x00\x00" + body)
    answer = _read(connection, 16)
    if struct.unpack("<i", answer[12:16])[0] not in {1, 2013}:
        raise NotReady("it does not speak MongoDB's protocol")


def memcached(connection: socket.socket) -> None:
    connection.sendall(b"version\r\n")
    if not _read(connection, 7).startswith(b"VERSION"):
        raise NotReady("it does not speak memcached's protocol")


def nats(connection: socket.socket) -> None:
    if not _read(connection, 5).startswith(b"INFO "):
        raise NotReady("it does not speak NATS's protocol")


def smtp(connection: socket.socket) -> None:
    answer = _read(connection, 4)
    if not answer.startswith(b"220"):
        raise NotReady(f"it says {answer.split(chr(13).encode())[0].decode('ascii', 'replace')}")


GREETINGS: dict[str, Callable[[socket.socket], None]] = {
    "postgres": postgres,
    "mysql": mysql,
    "redis": redis,
    "rabbitmq": rabbitmq,
    "mongodb": mongodb,
    "memcached": memcached,
    "nats": nats,
    "smtp": smtp,
}
