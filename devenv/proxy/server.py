"""The front proxy at work: listeners, their certificates, and an orderly end. In one thread, by aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from aiohttp import typedefs, web

from devenv.proxy import authority, daemon, forward, tunnel
from devenv.util import paths

# For answers that are under way when it is told to end; a stream of events has no end of its own.
GRACE = 2.0
BACKLOG = 512


async def serve(
    where: paths.Paths,
    settings: daemon.Settings,
    *,
    https: Sequence[socket.socket],
    http: Sequence[socket.socket],
    ready: Callable[[], None],
) -> None:
    """Until SIGTERM, SIGINT or SIGHUP."""
    _raise_limit()
    found, _ = authority.ensure(daemon.authority_folder(where))
    contexts = authority.Contexts(found)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with forward.Forwarder(where, https=settings.https, redirect=settings.redirect) as forwarder:
        runner = web.AppRunner(
            _application(forwarder),
            handle_signals=False,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            max_line_size=forward.MAX_FIELD,
            max_field_size=forward.MAX_FIELD,
            shutdown_timeout=GRACE,
        )
        await runner.setup()
        try:
            async with _Secure(forwarder, contexts, runner) as secure:
                for each in https:
                    await secure.listen(each)
                for each in http:
                    await web.SockSite(runner, each, backlog=BACKLOG).start()
                ready()
                await ended.wait()
        finally:
            await runner.cleanup()


def _raise_limit() -> None:
    """Two descriptors for each request that is under way, and 1024 is what most sessions begin with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Secure:
    """What listens for TLS: HTTP/1.1 for aiohttp, HTTP/2 for a tunnel."""

    def __init__(self, forwarder: forward.Forwarder, contexts: authority.Contexts, runner: web.AppRunner) -> None:
        self._forwarder = forwarder
        self._contexts = contexts
        self._runner = runner
        self._servers: list[asyncio.Server] = []
        self._tunnels: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> _Secure:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for each in self._tunnels:
            each.cancel()
        await asyncio.gather(*self._tunnels, return_exceptions=True)

    async def listen(self, listener: socket.socket) -> None:
        served = self._runner.server
        assert served is not None
        self._servers.append(
            await asyncio.get_running_loop().create_server(
                lambda: tunnel.Chooser(served, self._lead),
                sock=listener,
                ssl=self._contexts.server(),
                backlog=BACKLOG,
            )
        )

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tunnels.add(task)
        try:
            host = self._contexts.host(writer.get_extra_info("ssl_object").context)
            await tunnel.carry(reader, writer, self._forwarder.target(host))
        finally:
            self._tunnels.discard(task)


def _application(forwarder: forward.Forwarder) -> web.Application:
    @web.middleware
    async def everything(request: web.Request, handler: typedefs.Handler) -> web.StreamResponse:
        return await forwarder.handle(request)

    application = web.Application(middlewares=[everything])
    application.on_response_prepare.append(forward.trim)
    return application


def main(told: str) -> None:
    """In the background: what ``daemon.detached`` hands over."""
    given = json.loads(told)
    where, settings = paths.Paths(*given["where"]), daemon.Settings(*given["settings"])

    def ready() -> None:
        os.write(given["ready"], b"1")
        os.close(given["ready"])

    https, http = ([socket.socket(fileno=number) for number in given[name]] for name in ("https", "http"))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(where, settings, https=https, http=http, ready=ready))
    sys.exit(0)
