"""HTTP/2 as it is: who speaks nothing else, such as a gRPC client, is led to the service byte by byte.

aiohttp knows HTTP/1.1 alone, which browsers are content with. A client that offers HTTP/2 and no HTTP/1.1 (ALPN) gets
a connection of its own to the service that its TLS names (SNI), which has to speak HTTP/2 in the clear ("h2c, prior
knowledge"). Nothing is read on the way, so nothing can be added either: no `X-Forwarded-…`, and no page where nobody
listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

from devenv.proxy import dial

ALPN = "h2"
CHUNK = 1 << 16

Lead = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Chooser(asyncio.Protocol):
    """The first protocol of a connection: gives it to ``http`` or to ``lead`` as soon as TLS is agreed upon."""

    def __init__(self, http: Callable[[], asyncio.Protocol], lead: Lead) -> None:
        self._http = http
        self._lead = lead

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection: ssl.SSLObject = transport.get_extra_info("ssl_object")
        if connection.selected_alpn_protocol() == ALPN:
            chosen: asyncio.Protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._lead)
        else:
            chosen = self._http()
        cast(asyncio.Transport, transport).set_protocol(chosen)
        chosen.connection_made(transport)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, found: dial.Target | None) -> None:
    """Between a client and where it is to be led, until either ends. Raises nothing."""
    with contextlib.suppress(OSError, dial.NotRunning, dial.NobodyListens), contextlib.closing(writer):
        if found is None:
            return
        inner_reader, inner_writer = await asyncio.open_connection(sock=await dial.connect(*found))
        with contextlib.closing(inner_writer):
            ways = [
                asyncio.create_task(_pump(reader, inner_writer)),
                asyncio.create_task(_pump(inner_reader, writer)),
            ]
            try:
                # An end of HTTP/2 that says no more takes no more either.
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
