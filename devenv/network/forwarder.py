"""Asking other servers: one question to one server after the other, over UDP or TCP. Standard library only.

Every question has a socket of its own, so that its port is as hard to guess as its number, and only who was asked is
heard. A server that is silent, fails or refuses is followed by the next one; the last failure is the answer.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence

from devenv.network import dns, inside, relay

PATIENCE = 2.0  # for one server
MAX_SERVERS = 3  # resolv.conf(5) has no more
MAX_UNDERWAY = 1024
PORT = 53

Make = Callable[[int, int], socket.socket]  # family and kind
Done = Callable[[bytes], None]


class Forwarder:
    """The questions that are under way."""

    def __init__(self, loop: relay.Loop) -> None:
        self._loop = loop
        self._underway: set[Exchange] = set()

    def ask(self, query: bytes, servers: Sequence[str], *, make: Make, stream: bool, done: Done) -> None:
        """``done`` gets the answer, or nothing when nobody gave one."""
        if len(self._underway) >= MAX_UNDERWAY:
            done(b"")
            return
        exchange = Exchange(self._loop, query, servers[:MAX_SERVERS], make=make, stream=stream)
        self._underway.add(exchange)
        exchange.begin(functools.partial(self._ended, exchange, done))

    def _ended(self, exchange: Exchange, done: Done, answer: bytes) -> None:
        self._underway.discard(exchange)
        done(answer)


class Exchange:
    """One question."""

    def __init__(self, loop: relay.Loop, query: bytes, servers: Sequence[str], *, make: Make, stream: bool) -> None:
        self._loop = loop
        self._client_number = query[:2]
        self._query = os.urandom(2) + query[2:]
        self._servers = list(servers)
        self._make = make
        self._stream = stream
        self._socket: socket.socket | None = None
        self._received = b""
        self._failure = b""
        self._deadline = 0.0
        self._done: Done = lambda answer: None

    def begin(self, done: Done) -> None:
        self._done = done
        self._loop.aging[self] = self._age
        self._next()

    def _next(self) -> None:
        self._drop()
        while self._servers:
            try:
                self._send(self._servers.pop(0))
                return
            except OSError:
                self._drop()
        self._end(self._failure)

    def _send(self, server: str) -> None:
        address = socket.getaddrinfo(server, PORT, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
        self._received = b""
        self._deadline = time.monotonic() + PATIENCE
        kind = socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM
        self._socket = self._make(inside.family(server), kind)
        code = self._socket.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        if self._stream:
            self._loop.add(self._socket.fileno(), relay.OUT, self._connected)
        else:
            self._socket.send(self._query)
            self._loop.add(self._socket.fileno(), relay.IN, self._ready)

    def _connected(self, events: int) -> None:
        assert self._socket is not None
        try:
            # It fits into any socket's buffer; a connection that failed says so here.
            self._socket.send(struct.pack(">H", len(self._query)) + self._query)
        except OSError:
            self._next()
            return
        self._loop.remove(self._socket.fileno())
        self._loop.add(self._socket.fileno(), relay.IN, self._ready)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65537)
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if not self._stream:
            self._heard(data)
            return
        self._received += data
        if len(self._received) >= 2 and len(self._received) >= 2 + int.from_bytes(self._received[:2], "big"):
            self._heard(self._received[2:])
        elif not data:
            self._next()

    def _heard(self, answer: bytes) -> None:
        if not dns.matches(self._query, answer):
            return
        answer = self._client_number + answer[2:]
        if dns.code(answer) in (dns.SERVFAIL, dns.REFUSED, dns.NOTIMP):
            self._failure = answer
            self._next()
        else:
            self._end(answer)

    def _age(self, now: float) -> None:
        if now > self._deadline:
            self._next()

    def _drop(self) -> None:
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _end(self, answer: bytes) -> None:
        self._drop()
        self._loop.aging.pop(self, None)
        self._done(answer)
