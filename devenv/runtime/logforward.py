"""A copy of what a container prints, line by line, to journald or syslog.

The log on disk stays whole whatever becomes of the copy: a receiver that is slow or not there never makes a container
wait. Some is held for it until it is back, and of what was too much it is told how many lines are missing.
"""

from __future__ import annotations

import collections
import errno
import socket
from typing import Any

from devenv.runtime import logforms
from devenv.runtime import loop as loops
from devenv.util import fs

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
DRIVERS = frozenset({"journald", "syslog"})
_LINE_LIMIT = 16 * 1024
_HELD_LIMIT = 1 << 20
_BUSY_SECONDS, _ABSENT_SECONDS = 0.02, 1.0
_LAST_ATTEMPTS = 100
_KINDS = {"udp": socket.SOCK_DGRAM, "unixgram": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM, "unix": 0}
SCHEMES = tuple(_KINDS)


def begin(folder: str, loop: loops.Loop) -> Forwarder | None:
    """For the container of ``folder``; ``None`` where its record asks for no copy."""
    record = fs.read_json(f"{folder}/container.json")
    logging: dict[str, Any] = (record.get("logging") or {}) if isinstance(record, dict) else {}
    if logging.get("driver") == "journald":
        return Forwarder(Sink(loop, f"unixgram://{JOURNAL}"), logforms.journal(record))
    if logging.get("driver") == "syslog":
        address = str(logging.get("syslog-address") or f"unix://{SYSLOG}")
        return Forwarder(Sink(loop, address), logforms.syslog(record))
    return None


class Forwarder:
    def __init__(self, sink: Sink, form: logforms.Form) -> None:
        self._sink = sink
        self._form = form
        self._unended: dict[str, bytes] = {}

    def feed(self, stream: str, data: bytes) -> None:
        *lines, rest = (self._unended.pop(stream, b"") + data).split(b"\n")
        for line in lines:
            self._pieces(stream, line)
        while len(rest) > _LINE_LIMIT:
            self._send(stream, rest[:_LINE_LIMIT], partial=True)
            rest = rest[_LINE_LIMIT:]
        if rest:
            self._unended[stream] = rest

    def _pieces(self, stream: str, line: bytes) -> None:
        while len(line) > _LINE_LIMIT:
            self._send(stream, line[:_LINE_LIMIT], partial=True)
            line = line[_LINE_LIMIT:]
        self._send(stream, line, partial=False)

    def _send(self, stream: str, line: bytes, *, partial: bool) -> None:
        if self._sink.lost and self._sink.has_room:
            text = b"[devenv: %d lines are missing here: `devenv logs` has them]" % self._sink.lost
            self._sink.lost = 0
            self._sink.send(self._form(stream, text, False))
        # Neither has use for an empty line.
        if line.rstrip(b"\r"):
            self._sink.send(self._form(stream, line.rstrip(b"\r"), partial))

    def close(self) -> None:
        for stream, rest in self._unended.items():
            self._send(stream, rest, partial=False)
        self._unended.clear()
        self._sink.close()


class Sink:
    """Sends messages whole and in order, without ever waiting."""

    def __init__(self, loop: loops.Loop, address: str) -> None:
        scheme, _, rest = address.partition("://")
        self.lost = 0
        self._loop = loop
        self._kinds = [_KINDS[scheme]] if _KINDS[scheme] else [socket.SOCK_DGRAM, socket.SOCK_STREAM]
        self._path = rest if scheme.startswith("unix") else ""
        host, _, port = rest.rpartition(":")
        self._peer = ("", 0) if self._path else (host.strip("[]"), int(port))
        self._socket: socket.socket | None = None
        self._messages: collections.deque[bytes] = collections.deque()
        self._held = 0
        self._sent = 0  # of the first message, on a stream
        self._timer: loops.Timer | None = None
        self._attempts = -1  # that are left once it is closed

    @property
    def has_room(self) -> bool:
        return self._held < _HELD_LIMIT // 2

    def send(self, message: bytes) -> None:
        if self._held + len(message) > _HELD_LIMIT:
            self.lost += 1
            return
        self._messages.append(message)
        self._held += len(message)
        if self._timer is None:
            self._flush()

    def close(self) -> None:
        self._attempts = _LAST_ATTEMPTS
        if self._timer is None:
            self._flush()

    def _flush(self) -> None:
        self._timer = None
        wait = self._send_all()
        if wait and self._attempts != 0:
            self._attempts -= self._attempts > 0
            self._timer = self._loop.later(wait, self._flush)
        elif self._attempts >= 0:
            self._disconnect()

    def _send_all(self) -> float:
        """How long to wait before there is a use in going on; 0 when all is sent."""
        while self._messages:
            try:
                self._send_one()
            except BlockingIOError:
                return _BUSY_SECONDS
            except OSError as exc:
                self._disconnect()
                if exc.errno == errno.EMSGSIZE:
                    self._held -= len(self._messages.popleft())
                    self.lost += 1
                    continue
                return _ABSENT_SECONDS
        return 0.0

    def _send_one(self) -> None:
        if self._socket is None:
            self._socket = self._connected()
        message = self._messages[0]
        if self._socket.type == socket.SOCK_DGRAM:
            self._socket.send(message)
        else:
            whole = message + b"\n"
            self._sent += self._socket.send(whole[self._sent :])
            if self._sent < len(whole):
                return
        self._sent = 0
        self._held -= len(self._messages.popleft())

    def _connected(self) -> socket.socket:
        for kind in self._kinds:
            family = socket.AF_UNIX if self._path else socket.AF_INET6 if ":" in self._peer[0] else socket.AF_INET
            opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                opened.connect(self._path or self._peer)
            except BlockingIOError:
                return opened  # a stream: sending tells whether it came to be
            except OSError:
                opened.close()
                if kind == self._kinds[-1]:
                    raise
            else:
                return opened
        raise AssertionError("there is always a kind")

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._sent = 0
