"""The monitor's side of its socket: who is connected, what each still has to be sent.

Nobody can make the monitor wait. A packet that the kernel doesn't take now is queued; a client whose queue grows over
its bound is cut off, and can connect again and ask how things are.
"""

from __future__ import annotations

import collections
import os
import socket
from collections.abc import Callable

from devenv.runtime import loop as loops
from devenv.runtime import protocol

_QUEUE_BYTES = 4 * 1024 * 1024
_QUEUE_PACKETS = 4096
_PACKETS_A_TURN = 16


class Client:
    def __init__(self, server: Server, connection: socket.socket) -> None:
        self.role = ""
        self.subscribed = False
        self.escrow = False  # it holds descriptors for the next monitor
        self.said_bye = False
        self.connection = connection
        self._server = server
        self._queue: collections.deque[tuple[bytes, tuple[int, ...]]] = collections.deque()
        self._queued = 0

    @property
    def alive(self) -> bool:
        return self.connection.fileno() >= 0

    def send(self, message: protocol.Message, fds: tuple[int, ...] = ()) -> None:
        """``fds`` stay the caller's."""
        if not self.alive:
            return
        data = protocol.encode(message)
        if not self._queue and self._try(data, fds):
            return
        if not self.alive:
            return
        self._queue.append((data, tuple(os.dup(descriptor) for descriptor in fds)))
        self._queued += len(data)
        if self._queued > _QUEUE_BYTES or len(self._queue) > _QUEUE_PACKETS:
            self.close()
        else:
            self._server.loop.modify(self.connection.fileno(), loops.READ | loops.WRITE)

    def _try(self, data: bytes, fds: tuple[int, ...]) -> bool:
        try:
            protocol.send(self.connection, data, fds)
        except BlockingIOError:
            return False
        except OSError:
            self.close()  # EPIPE, ECONNRESET: it has gone
            return False
        return True

    def ready(self, mask: int) -> None:
        if mask & loops.WRITE:
            self._flush()
        for _ in range(_PACKETS_A_TURN):
            if not self.alive or not mask & (loops.READ | loops.HANGUP):
                return
            try:
                packet = protocol.receive(self.connection)
            except BlockingIOError:
                return
            except protocol.ProtocolError as exc:
                self.send({"error": {"code": "protocol", "message": str(exc), "hint": None, "note": None}})
                self.close()
                return
            except OSError:
                packet = None
            if packet is None:
                self.close()
                return
            self._server.on_packet(self, packet)

    def _flush(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            if not self._try(data, fds):
                return
            self._queue.popleft()
            self._queued -= len(data)
            protocol.close_all(fds)
        if self.alive:
            self._server.loop.modify(self.connection.fileno(), loops.READ)

    def close(self) -> None:
        if not self.alive:
            return
        self._server.loop.remove(self.connection.fileno())
        self.connection.close()
        for _, fds in self._queue:
            protocol.close_all(fds)
        self._queue.clear()
        self._server.forget(self)


class Server:
    def __init__(
        self,
        loop: loops.Loop,
        listener: socket.socket,
        *,
        on_packet: Callable[[Client, protocol.Packet], None],
        on_close: Callable[[Client], None],
    ) -> None:
        self.loop = loop
        self.clients: set[Client] = set()
        self.on_packet = on_packet
        self._on_close = on_close
        self._listener = listener
        self._uid = os.geteuid()
        # Given up for a moment when there are no descriptors left, or the waiting connection would keep us busy.
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        listener.setblocking(False)
        loop.add(listener.fileno(), loops.READ, self._accept)

    def broadcast(self, message: protocol.Message) -> None:
        for client in tuple(self.clients):
            if client.subscribed:
                client.send(message)

    def forget(self, client: Client) -> None:
        self.clients.discard(client)
        self._on_close(client)

    def _accept(self, _mask: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            os.close(self._spare)
            try:
                self._listener.accept()[0].close()
            except OSError:
                pass
            self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            return
        if protocol.peer_uid(connection) != self._uid:
            connection.close()
            return
        connection.setblocking(False)
        client = Client(self, connection)
        self.clients.add(client)
        self.loop.add(connection.fileno(), loops.READ, client.ready)
