"""Connections into containers, by sockets that were made inside of them.

The front proxy is an ordinary process of the user's. Where containers live in a user namespace it may enter none of
them, and two projects may have the same addresses. So it asks the port proxy of the project, which stands in its
containers anyway, for a socket that was made there, and connects that itself.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import NamedTuple

import aiohttp
from aiohttp import client_proto, client_reqrep, tracing

from devenv.network import inside
from devenv.proxy import routes, table
from devenv.util import sockets

PATIENCE = 10.0
# Shorter than what servers of development grant an idle connection (node: 5 s), so that none is used that just ends.
KEEP = 4.0


class NotRunning(aiohttp.ClientConnectionError):
    """The container has no process, or none that sockets can be had of."""


class NobodyListens(aiohttp.ClientConnectionError):
    """Nothing takes connections at the container's port."""


class Target(NamedTuple):
    instance: routes.Instance
    place: table.Place | None
    port: int


Find = Callable[[str], tuple[routes.Instance, table.Place | None]]


class Connector(aiohttp.BaseConnector):
    """For URLs whose host is a container's id; ``find`` says where that is. ``kept``: for more than one request."""

    def __init__(self, find: Find, *, kept: bool) -> None:
        if kept:
            super().__init__(limit=0, keepalive_timeout=KEEP)
        else:
            super().__init__(limit=0, force_close=True)
        self._find = find

    async def _create_connection(
        self, req: client_reqrep.ClientRequest, traces: list[tracing.Trace], timeout: aiohttp.ClientTimeout
    ) -> client_proto.ResponseHandler:
        assert req.url.host is not None
        assert req.url.port is not None
        connected = await connect(*self._find(req.url.host), req.url.port)
        try:
            _, protocol = await self._loop.create_connection(self._factory, sock=connected)
        except BaseException:
            connected.close()
            raise
        return protocol


async def connect(instance: routes.Instance, place: table.Place | None, port: int) -> socket.socket:
    """Raises ``NotRunning`` or ``NobodyListens``."""
    if place is None:
        raise NotRunning(f"container `{instance.name}` is not running")
    loop = asyncio.get_running_loop()
    reason = ""
    for address in place.addresses:
        made = _own(address) if instance.on_host else await _borrow(instance, place, address)
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_connect(made, (address, port))
        except (OSError, TimeoutError) as exc:
            made.close()
            reason = reason or str(exc)
            continue
        except BaseException:
            made.close()
            raise
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    raise NobodyListens(reason)


def _own(address: str) -> socket.socket:
    """On the machine's own network. A port proxy in a user namespace couldn't go there (setns(2))."""
    return socket.socket(inside.family(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


async def _borrow(instance: routes.Instance, place: table.Place, address: str) -> socket.socket:
    request = {"op": "socket", "pid": place.pid, "start_time": place.start_time, "address": address}
    try:
        # Nobody waits in connect(2): a unix socket is connected when it is in the queue.
        with sockets.connect(f"{instance.run}/ports.sock") as wire:
            wire.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(wire, json.dumps(request).encode() + b"\n")
            async with asyncio.timeout(PATIENCE):
                await _readable(wire)
            data, descriptors, _, _ = socket.recv_fds(wire, 1 << 16, 1, socket.MSG_CMSG_CLOEXEC)
    except (OSError, TimeoutError) as exc:
        raise NotRunning(f"the port proxy of the project does not answer: {exc or 'timeout'}") from exc
    if not descriptors:
        raise NotRunning(f"no socket can be had in container `{instance.name}`: {_error(data)}")
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)
    return made


def _error(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        return "no answer"


async def _readable(wire: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(wire.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_reader(wire.fileno())
