"""A small client of D-Bus: method calls and signals over one socket (dbus.freedesktop.org, protocol version 1).

Enough to ask systemd for something and to wait until it is done. Messages are written little-endian and read in either
order. Left out: descriptors, introspection, serving objects, every transport but a unix socket, every mechanism of
authentication but EXTERNAL, by which the kernel tells who we are.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)
_HEADER = {
    _PATH: "o", _INTERFACE: "s", _MEMBER: "s", _ERROR_NAME: "s",
    _REPLY_SERIAL: "u", _DESTINATION: "s", _SENDER: "s", _SIGNATURE: "g",
}  # fmt: skip
_FIXED = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "b": "I"}
_ALIGNMENT = {"s": 4, "o": 4, "g": 1, "a": 4, "(": 8, "{": 8, "v": 1}
_LIMIT = 1 << 27  # of a whole message, by the specification
_DEPTH = 64


class Variant(NamedTuple):
    signature: str
    value: Any


class Message(NamedTuple):
    kind: int
    serial: int
    fields: dict[int, Any]
    body: tuple[Any, ...]

    @property
    def member(self) -> str:
        return str(self.fields.get(_MEMBER, ""))


class BusError(OSError):
    """The other side's refusal: ``name`` as org.freedesktop.DBus.Error.…"""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(71, text or name)  # EPROTO
        self.name = name


class Bus:
    """One connection. Every wait is bounded by ``seconds``; ``TimeoutError`` says that it was too short."""

    def __init__(self, path: str, *, seconds: float = 5.0) -> None:
        """``path`` is a socket's; an abstract one begins with NUL. Raises ``OSError``."""
        self._seconds = seconds
        self._serials = itertools.count(1)
        self._held: list[Message] = []
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(path)
            self._authenticate()
            self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: Any
    ) -> tuple[Any, ...]:
        """The reply's values. Raises ``BusError`` for a refusal."""
        serial = next(self._serials)
        fields = {_PATH: path, _INTERFACE: interface, _MEMBER: member, _DESTINATION: destination}
        self._socket.sendall(encode(METHOD_CALL, serial, fields, signature, values))
        deadline = time.monotonic() + self._seconds
        while True:
            message = self._next(deadline)
            if message.fields.get(_REPLY_SERIAL) == serial:
                break
            self._held.append(message)
        if message.kind == ERROR:
            text = message.body[0] if message.body and isinstance(message.body[0], str) else ""
            raise BusError(str(message.fields.get(_ERROR_NAME, "")), text)
        return message.body

    def subscribe(self, rule: str) -> None:
        """Of signals, as ``type='signal',member='JobRemoved'``."""
        self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", rule)

    def signals(self) -> Iterator[Message]:
        """What has come since the connection was made, then what comes; for ``seconds`` in all."""
        deadline = time.monotonic() + self._seconds
        while True:
            message = self._held.pop(0) if self._held else self._next(deadline)
            if message.kind == SIGNAL:
                yield message

    def _authenticate(self) -> None:
        # Without naming an id: in a user namespace ours is another than the bus sees.
        self._socket.sendall(b"\0AUTH EXTERNAL\r\n")
        if self._line() != b"DATA":
            raise ConnectionRefusedError(111, "the bus doesn't take EXTERNAL authentication")
        self._socket.sendall(b"DATA\r\n")
        if not self._line().startswith(b"OK "):
            raise PermissionError(1, "the bus refuses this user")
        self._socket.sendall(b"BEGIN\r\n")

    def _line(self) -> bytes:
        while b"\r\n" not in self._received and len(self._received) < 4096:
            self._receive(time.monotonic() + self._seconds)
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(110, "the bus doesn't answer")
        self._socket.settimeout(left)
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError(104, "the bus has closed the connection")
        self._received += data

    def _next(self, deadline: float) -> Message:
        while True:
            size = size_of(self._received)
            if size and len(self._received) >= size:
                data, self._received = self._received[:size], self._received[size:]
                return decode(data)
            self._receive(deadline)


def session_address() -> str | None:
    """The socket of the user's own bus: from the environment, or where systemd puts it. None if there is none."""
    folders = (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}")
    return _given("DBUS_SESSION_BUS_ADDRESS") or _first_there(f"{folder}/bus" for folder in folders if folder)


def system_address() -> str | None:
    """The socket of the system's bus, likewise."""
    return _given("DBUS_SYSTEM_BUS_ADDRESS") or _first_there(
        ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"]
    )


def _given(variable: str) -> str | None:
    for address in os.environ.get(variable, "").split(";"):
        kind, _, options = address.partition(":")
        values = dict(option.partition("=")[::2] for option in options.split(","))
        if kind == "unix" and "path" in values:
            return values["path"]
        if kind == "unix" and "abstract" in values:
            return f"\0{values['abstract']}"
    return None


def _first_there(paths: Iterable[str]) -> str | None:
    return next((path for path in paths if os.path.exists(path)), None)


# -- messages ----------------------------------------------------------------------------------------------------------


def encode(kind: int, serial: int, fields: dict[int, Any], signature: str, values: Sequence[Any]) -> bytes:
    body = _Writer()
    types = list(split(signature))
    for each, value in zip(types, values, strict=True):
        body.put(each, value)
    if signature:
        fields = {**fields, _SIGNATURE: signature}
    head = _Writer()
    head.data += struct.pack("<cBBBII", b"l", kind, 0, 1, len(body.data), serial)
    head.put("a(yv)", [(code, Variant(_HEADER[code], value)) for code, value in sorted(fields.items())])
    head.align(8)
    return bytes(head.data + body.data)


def size_of(data: bytes) -> int:
    """Of the message that begins with ``data``; 0 while that can't be told. Raises ``OSError`` for nonsense."""
    if len(data) < 16:
        return 0
    order = _order(data)
    body, fields = struct.unpack_from(f"{order}I", data, 4)[0], struct.unpack_from(f"{order}I", data, 12)[0]
    size = int(16 + fields + -fields % 8 + body)
    if size > _LIMIT:
        raise _nonsense()
    return size


def decode(data: bytes) -> Message:
    order = _order(data)
    try:
        kind, serial = data[1], struct.unpack_from(f"{order}I", data, 8)[0]
        reader = _Reader(data, 12, order)
        fields = {code: variant.value for code, variant in reader.take("a(yv)")}
        reader.align(8)
        body = tuple(reader.take(each) for each in split(str(fields.get(_SIGNATURE, ""))))
    except (struct.error, IndexError, KeyError, ValueError) as exc:
        raise _nonsense() from exc
    return Message(kind, serial, fields, body)


def _order(data: bytes) -> str:
    found = {b"l": "<", b"B": ">"}.get(data[:1])
    if found is None:
        raise _nonsense()
    return found


def _nonsense() -> OSError:
    return OSError(71, "the bus sends what is no message")


def split(signature: str) -> Iterator[str]:
    """Its complete types, one after the other. Raises ``ValueError``."""
    start = 0
    while start < len(signature):
        end = _end(signature, start, 0)
        yield signature[start:end]
        start = end


def _end(signature: str, start: int, depth: int) -> int:
    letter = signature[start : start + 1]
    if depth > _DEPTH:
        raise ValueError(signature)
    if letter == "a":
        return _end(signature, start + 1, depth + 1)
    if letter in _FIXED or (letter and letter in "sogv"):
        return start + 1
    closing = {"(": ")", "{": "}"}.get(letter)
    if closing is None:
        raise ValueError(signature)
    start += 1
    while signature[start : start + 1] != closing:
        start = _end(signature, start, depth + 1)
    return start + 1


def _alignment(kind: str) -> int:
    return _ALIGNMENT.get(kind[0]) or struct.calcsize(_FIXED[kind[0]])


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def put(self, kind: str, value: Any) -> None:
        self.align(_alignment(kind))
        letter = kind[0]
        if letter in _FIXED:
            self.data += struct.pack(f"<{_FIXED[letter]}", value)
        elif letter in "so":
            data = value.encode()
            self.data += struct.pack("<I", len(data)) + data + b"\0"
        elif letter == "g":
            self.data += bytes([len(value)]) + value.encode() + b"\0"
        elif letter == "v":
            self.put("g", value.signature)
            self.put(value.signature, value.value)
        elif letter == "a":
            self._array(kind[1:], value)
        else:
            for each, part in zip(split(kind[1:-1]), value, strict=True):
                self.put(each, part)

    def _array(self, kind: str, values: Any) -> None:
        place = len(self.data)
        self.data += bytes(4)
        self.align(_alignment(kind))
        begin = len(self.data)
        for value in values.items() if isinstance(values, dict) else values:
            self.put(kind, value)
        struct.pack_into("<I", self.data, place, len(self.data) - begin)


class _Reader:
    def __init__(self, data: bytes, place: int, order: str) -> None:
        self._data = data
        self._place = place
        self._order = order

    def align(self, size: int) -> None:
        self._place += -self._place % size

    def take(self, kind: str, depth: int = 0) -> Any:
        if depth > _DEPTH:
            raise ValueError(kind)
        self.align(_alignment(kind))
        letter = kind[0]
        if letter in _FIXED:
            [value] = struct.unpack_from(f"{self._order}{_FIXED[letter]}", self._data, self._place)
            self._place += struct.calcsize(_FIXED[letter])
            return bool(value) if letter == "b" else value
        if letter in "so":
            return self._text(self.take("u"))
        if letter == "g":
            return self._text(self.take("y"))
        if letter == "v":
            signature = self.take("g")
            [kind] = split(signature)
            return Variant(signature, self.take(kind, depth + 1))
        if letter == "a":
            return self._array(kind[1:], depth)
        return tuple(self.take(each, depth + 1) for each in split(kind[1:-1]))

    def _text(self, size: int) -> str:
        data = self._data[self._place : self._place + size]
        if len(data) < size:
            raise ValueError(size)
        self._place += size + 1
        return data.decode()

    def _array(self, kind: str, depth: int) -> Any:
        size = self.take("u")
        self.align(_alignment(kind))
        end = self._place + size
        if end > len(self._data):
            raise ValueError(size)
        found = []
        while self._place < end:
            found.append(self.take(kind, depth + 1))
        return dict(found) if kind[0] == "{" else found
