"""A user bus with systemd's manager on it, as far as devenv speaks to them: one connection after the other."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from devenv.linux import dbus

Handler = Callable[[dbus.Message], tuple[str, tuple[Any, ...]]]


class Bus:
    """Answers each call by ``handlers[member]``; a handler may raise ``dbus.BusError``."""

    def __init__(self, path: str, handlers: dict[str, Handler]) -> None:
        self.calls: list[dbus.Message] = []
        self.after: dict[str, list[bytes]] = {}  # member -> messages to send once it has been answered
        self._handlers = handlers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        # Wakes accept(2), which closing alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(ConnectionError):
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection.makefile("rb") as lines:
            assert lines.readline() == b"\0AUTH EXTERNAL\r\n"
            connection.sendall(b"DATA\r\n")
            assert lines.readline() == b"DATA\r\n"
            connection.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
            assert lines.readline() == b"BEGIN\r\n"
            while head := lines.read(16):
                self._answer(connection, dbus.decode(head + lines.read(dbus.size_of(head) - 16)))

    def _answer(self, connection: socket.socket, call: dbus.Message) -> None:
        self.calls.append(call)
        fields = {5: call.serial}
        try:
            signature, values = self._handlers[call.member](call) if call.member in self._handlers else ("", ())
            data = dbus.encode(dbus.METHOD_RETURN, call.serial, fields, signature, values)
        except dbus.BusError as exc:
            data = dbus.encode(dbus.ERROR, call.serial, {**fields, 4: exc.name}, "s", (exc.strerror,))
        # In the middle of a message: a stream keeps no bounds.
        whole = b"".join([data, *self.after.get(call.member, [])])
        connection.sendall(whole[:7])
        connection.sendall(whole[7:])


@contextlib.contextmanager
def serving(folder: str | os.PathLike[str], **handlers: Handler) -> Iterator[Bus]:
    bus = Bus(f"{os.fspath(folder)}/bus", handlers)
    try:
        yield bus
    finally:
        bus.close()
