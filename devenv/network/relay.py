"""Moving bytes for the port proxy: one epoll, TCP by splice(2), UDP by flows. Standard library only.

TCP, each direction on its own: socket ─splice─▶ pipe ─splice─▶ socket, so that no byte enters this process. A direction
reads only while its pipe is empty (a slow reader thus slows its writer, and nobody else), and its end is passed on by
shutdown(2) while the other direction goes on. Pipes come from a pool and only while there is something to carry: an
idle connection costs two descriptors.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

IN, OUT, ERR, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP
PIPE_SIZE = 1 << 18
BUDGET = 8  # rounds for one connection before the others get their turn
SPARE_PIPES = 64
CONNECT_PATIENCE = 10.0
FLOW_PATIENCE = 90.0
MAX_FLOWS = 1024  # for one UDP port
IP_PKTINFO = 8
SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

Address = tuple[str, int]
Handler = Callable[[int], None]


class Loop:
    """epoll(7), level-triggered, and once a second whatever has to end by time, while there is such a thing."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}
        self.aging: dict[object, Callable[[float], None]] = {}
        self.running = True
        self._spare: list[tuple[int, int]] = []

    def add(self, descriptor: int, mask: int, handler: Handler) -> None:
        self._epoll.register(descriptor, mask)
        self._handlers[descriptor], self._masks[descriptor] = handler, mask

    def modify(self, descriptor: int, mask: int) -> None:
        if self._masks[descriptor] != mask:
            self._epoll.modify(descriptor, mask)
            self._masks[descriptor] = mask

    def remove(self, descriptor: int) -> None:
        """Before the descriptor is closed; once more does no harm."""
        if self._handlers.pop(descriptor, None) is not None:
            del self._masks[descriptor]
            self._epoll.unregister(descriptor)

    def run(self) -> None:
        last = time.monotonic()
        while self.running:
            for descriptor, events in self._epoll.poll(1.0 if self.aging else -1):
                # An earlier handler of this very round may have closed it.
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler(events)
            now = time.monotonic()
            if self.aging and now - last >= 1:
                last = now
                for age in list(self.aging.values()):
                    age(now)

    def take_pipe(self) -> tuple[int, int]:
        if self._spare:
            return self._spare.pop()
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            # Past what a plain user may have in pipes, pipe(7): a smaller one works as well.
            pass
        return pipe

    def give_pipe(self, pipe: tuple[int, int]) -> None:
        """Back to the pool; it has to be empty."""
        if len(self._spare) < SPARE_PIPES:
            self._spare.append(pipe)
        else:
            close_pipe(pipe)


def close_pipe(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    os.close(pipe[1])


class Backend(Protocol):
    """Where connections lead: makes sockets inside a container's network namespace."""

    def candidates(self, port: int) -> list[tuple[int, Address]]:
        """Family and address, the likeliest first; empty when the container is gone."""

    def socket(self, family: int, kind: int) -> socket.socket: ...

    def works(self, address: Address) -> None:
        """``address`` answered: begin with it the next time."""


class Half:
    """One direction of a connection."""

    __slots__ = ("closed", "eof", "pending", "pipe", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.pipe: tuple[int, int] | None = None
        self.pending = 0  # bytes in the pipe
        self.eof = False  # the source has sent all it had
        self.closed = False  # and the sink knows

    def pump(self, loop: Loop) -> bool:
        """Carry what can be carried; whether anything moved. Raises ``OSError`` when either side is broken."""
        moved = False
        for _ in range(BUDGET):
            if not self.pending and not self.eof:
                moved = self._fill(loop) or moved
            last = self.pending < PIPE_SIZE
            if not self._drain():
                break
            moved = True
            if last and not self.pending:
                break  # most likely that was all there is; if not, we hear of it
        if not self.pending:
            if self.pipe is not None:
                loop.give_pipe(self.pipe)
                self.pipe = None
            if self.eof and not self.closed:
                self.closed = True
                try:
                    self.sink.shutdown(socket.SHUT_WR)
                except OSError as exc:
                    # It went away by itself.
                    if exc.errno != errno.ENOTCONN:
                        raise
        return moved

    def _fill(self, loop: Loop) -> bool:
        if self.pipe is None:
            self.pipe = loop.take_pipe()
        try:
            count = os.splice(self.source.fileno(), self.pipe[1], PIPE_SIZE, flags=SPLICE)
        except BlockingIOError:
            return False
        self.pending = count
        self.eof = count == 0
        return True

    def _drain(self) -> bool:
        if not self.pending or self.pipe is None:
            return False
        try:
            count = os.splice(self.pipe[0], self.sink.fileno(), self.pending, flags=SPLICE)
        except BlockingIOError:
            return False
        self.pending -= count
        return True

    def drop(self, loop: Loop) -> None:
        if self.pipe is not None:
            # What is in it must not reach the next one to take it.
            if self.pending:
                close_pipe(self.pipe)
            else:
                loop.give_pipe(self.pipe)
            self.pipe = None


class Connection:
    """One client and its connection to the container. ``ended`` is called when both are closed; the first
    attempt may fail at once, so that it is ``over`` as soon as it is made."""

    def __init__(
        self, loop: Loop, client: socket.socket, *, backend: Backend, port: int, ended: Callable[[Connection], None]
    ) -> None:
        self._loop = loop
        self._client = client
        self._backend = backend
        self._candidates = backend.candidates(port)
        self._ended = ended
        self._server: socket.socket | None = None
        self._halves: tuple[Half, Half] | None = None
        self._deadline = time.monotonic() + CONNECT_PATIENCE
        self.over = False
        self._try_next()

    def _try_next(self) -> None:
        """Connect to the first address that doesn't refuse at once; without any, the client is refused as well."""
        while self._candidates:
            family, address = self._candidates.pop(0)
            try:
                server = self._backend.socket(family, socket.SOCK_STREAM)
            except OSError:
                continue
            code = server.connect_ex(address)
            if code in {0, errno.EINPROGRESS}:
                self._server = server
                self._loop.add(server.fileno(), OUT, functools.partial(self._connected, address))
                self._loop.aging[self] = self._age
                return
            server.close()
        self.abort()

    def _connected(self, address: Address, events: int) -> None:
        assert self._server is not None
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._loop.remove(self._server.fileno())
            self._server.close()
            self._server = None
            self._try_next()
            return
        self._loop.aging.pop(self, None)
        self._backend.works(address)
        server, client = self._server, self._client
        self._loop.remove(server.fileno())
        try:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:
            self.abort()
            return
        up, down = self._halves = (Half(client, server), Half(server, client))
        self._loop.add(client.fileno(), IN, functools.partial(self._ready, up, down))
        self._loop.add(server.fileno(), IN, functools.partial(self._ready, down, up))
        # The client has probably sent its request already.
        self._ready(up, down, IN)

    def _age(self, now: float) -> None:
        if now > self._deadline:
            self.abort()

    def _ready(self, reading: Half, writing: Half, events: int) -> None:
        """There is something to read from a socket, for ``reading``, or room to write to it, for ``writing``."""
        try:
            moved = bool(events & ~OUT) and reading.pump(self._loop)
            if writing.pending or events & ERR:
                moved = writing.pump(self._loop) or moved
        except OSError:
            self.abort()
            return
        if reading.closed and writing.closed:
            self._close()
        elif events & ERR and not moved:
            # Reset by one side, with nothing left to say.
            self.abort()
        else:
            self._arm(reading, writing)
            self._arm(writing, reading)

    def _arm(self, reading: Half, writing: Half) -> None:
        """Watch the socket that ``reading`` reads from and ``writing`` writes to, for what is missing."""
        descriptor = reading.source.fileno()
        if reading.eof and writing.closed:
            # Shut both ways, which epoll would report for ever.
            self._loop.remove(descriptor)
            return
        mask = IN if not reading.eof and not reading.pending else 0
        self._loop.modify(descriptor, mask | (OUT if writing.pending else 0))

    def abort(self) -> None:
        """End both sides by a reset, so that neither takes a broken stream for a whole one."""
        for one in (self._client, self._server):
            if one is not None:
                try:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    pass
        self._close()

    def _close(self) -> None:
        self.over = True
        self._loop.aging.pop(self, None)
        for half in self._halves or ():
            half.drop(self._loop)
        for one in (self._client, self._server):
            if one is not None and one.fileno() >= 0:
                self._loop.remove(one.fileno())
                one.close()
        self._ended(self)


class Datagrams:
    """One UDP port: a flow, with a socket of its own inside the container, for every client."""

    def __init__(self, loop: Loop, listener: socket.socket, *, backend: Callable[[], Backend]) -> None:
        self._loop = loop
        self._listener = listener
        self._backend = backend
        self._port = 0
        self._flows: dict[tuple[object, ...], Flow] = {}  # the longest unused first
        self._ipv6 = listener.family == socket.AF_INET6
        # Answers have to come from the address that was asked, also on a machine with several: ip(7).
        if self._ipv6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        loop.add(listener.fileno(), IN, self._ready)

    def _ready(self, events: int) -> None:
        for _ in range(64):
            try:
                data, control, _, client = self._listener.recvmsg(65535, 64)
            except BlockingIOError:
                return
            except OSError:
                # An answer that a client refused is reported here (udp(7)) and concerns nobody else.
                continue
            flow = self._flows.pop(client, None)
            if flow is None:
                if len(self._flows) >= MAX_FLOWS:
                    next(iter(self._flows.values())).close()
                flow = Flow(self._loop, self, client, _source(control), self._backend().candidates(self._port))
                self._loop.aging[self] = self._age
            self._flows[client] = flow
            flow.send(data, self._backend())

    def answer(self, data: bytes, client: tuple[object, ...], control: list[tuple[int, int, bytes]]) -> None:
        try:
            self._listener.sendmsg([data], control, 0, client)
        except OSError:
            # Lost on the way, as a datagram may be.
            pass

    def forget(self, client: tuple[object, ...]) -> None:
        self._flows.pop(client, None)
        if not self._flows:
            self._loop.aging.pop(self, None)

    def _age(self, now: float) -> None:
        for flow in [flow for flow in self._flows.values() if now - flow.used > FLOW_PATIENCE]:
            flow.close()

    def lead(self, port: int) -> None:
        """The container is another one now: the next datagram of every client begins anew."""
        self._port = port
        self._reset()

    def _reset(self) -> None:
        for flow in list(self._flows.values()):
            flow.close()

    def close(self) -> None:
        self._reset()
        self._loop.remove(self._listener.fileno())
        self._listener.close()


def _source(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Control data that sends from the address that a datagram came to, by whatever interface the route says."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(data) >= 12:
            return [(level, kind, struct.pack("=i4s4s", 0, data[4:8], bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= 20:
            # Only a link-local address means nothing without its interface.
            scope = data[16:20] if data[:2] == b"\xfe\x80" else bytes(4)
            return [(level, kind, data[:16] + scope)]
    return []


class Flow:
    """What one client and the container say to each other by UDP."""

    def __init__(
        self,
        loop: Loop,
        owner: Datagrams,
        client: tuple[object, ...],
        control: list[tuple[int, int, bytes]],
        candidates: list[tuple[int, Address]],
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._client = client
        self._control = control
        self._candidates = candidates
        self._server: socket.socket | None = None
        self._address: Address = ("", 0)
        self._answered = False
        self._last = b""
        self._backend: Backend | None = None
        self.used = time.monotonic()

    def send(self, data: bytes, backend: Backend) -> None:
        self.used = time.monotonic()
        self._backend = backend
        if not self._answered:
            self._last = data
        if self._server is None:
            self._try_next()
            return
        try:
            self._server.send(data)
        except ConnectionRefusedError:
            self._refused()
        except OSError:
            pass

    def _try_next(self) -> None:
        """Send the last datagram to the next address; a refusal shows only later, as an error on the socket."""
        assert self._backend is not None
        while self._candidates:
            family, self._address = self._candidates.pop(0)
            try:
                server = self._backend.socket(family, socket.SOCK_DGRAM)
            except OSError:
                continue
            try:
                server.connect(self._address)
                server.send(self._last)
            except OSError:
                server.close()
                continue
            self._server = server
            self._loop.add(server.fileno(), IN, self._ready)
            return
        self.close()

    def _refused(self) -> None:
        if self._answered:
            return
        self._drop()
        self._try_next()

    def _ready(self, events: int) -> None:
        for _ in range(64):
            if self._server is None:
                return
            try:
                data = self._server.recv(65535)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                self._refused()
                return
            except OSError:
                self.close()
                return
            self.used = time.monotonic()
            if not self._answered and self._backend is not None:
                self._backend.works(self._address)
            self._answered = True
            self._last = b""
            self._owner.answer(data, self._client, self._control)

    def _drop(self) -> None:
        if self._server is not None:
            self._loop.remove(self._server.fileno())
            self._server.close()
            self._server = None

    def close(self) -> None:
        self._drop()
        self._owner.forget(self._client)
