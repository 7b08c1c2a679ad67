"""DNS over TCP: one client's connection to the name server."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

from devenv.network import relay

PATIENCE = 10.0
MAX_MESSAGE = 65535


class Ask(Protocol):
    def __call__(self, data: bytes, *, done: Callable[[bytes], None]) -> None:
        """Exactly one call of ``done``, now or later."""


class Stream:
    """One client's connection: messages with their length in front, answered in whatever order."""

    def __init__(self, loop: relay.Loop, client: socket.socket, *, ask: Ask, closed: Callable[[Stream], None]) -> None:
        self._loop = loop
        self._client = client
        self._ask = ask
        self._closed = closed
        self._received = self._unsent = b""
        self._asking = 0
        self._all = False  # the client has asked all that it wants to know
        self._deadline = time.monotonic() + PATIENCE
        self._loop.add(client.fileno(), relay.IN, self._ready)
        self._loop.aging[self] = self._age

    def _ready(self, events: int) -> None:
        if events & relay.OUT:
            self._write()
        if not events & ~relay.OUT or self._client.fileno() < 0:
            return
        try:
            data = self._client.recv(MAX_MESSAGE + 2)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._all = not data
        self._deadline = time.monotonic() + PATIENCE
        self._received += data
        while len(self._received) >= 2:
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) < end:
                break
            message, self._received = self._received[2:end], self._received[end:]
            self._asking += 1
            self._ask(message, done=self._answer)
        if self._client.fileno() >= 0:
            self._write()

    def _answer(self, answer: bytes) -> None:
        self._asking -= 1
        if self._client.fileno() >= 0:
            self._unsent += struct.pack(">H", len(answer)) + answer if answer else b""
            self._write()

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._client.send(self._unsent) :] if self._unsent else b""
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._all and not self._asking and not self._unsent:
            self.close()
        elif self._unsent:
            # Who doesn't read what he asked for is asked nothing more.
            self._loop.modify(self._client.fileno(), relay.OUT)
        else:
            self._loop.modify(self._client.fileno(), 0 if self._all else relay.IN)

    def _age(self, now: float) -> None:
        if now > self._deadline:
            self.close()

    def close(self) -> None:
        if self._client.fileno() >= 0:
            self._loop.aging.pop(self, None)
            self._loop.remove(self._client.fileno())
            self._client.close()
            self._closed(self)
