"""A request to whom its host name means, and the answer back, as it comes.

Nothing is held back: bodies of both ways are passed on piece by piece, so uploads may be large and events arrive when
they are sent. There is no limit to how long a service may take: somebody may be sitting in its debugger. Who hangs up
ends the request to the service as well.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import aiohttp
import yarl
from aiohttp import hdrs, web
from multidict import CIMultiDict, MultiMapping

from devenv.proxy import answers, dial, routes, table
from devenv.util import paths

# Of one connection alone: RFC 9110, 7.6.1.
HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "expect"}
)
_FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"})
_WEBSOCKET = frozenset(
    {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol"}
    | {"sec-websocket-accept"}
)
_REPEATABLE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS, hdrs.METH_TRACE})
# Cookies and tokens of development may be large.
MAX_FIELD = 1 << 16


class Forwarder:
    """``https`` is where TLS is listened for, ``redirect`` whether who comes without is sent there."""

    def __init__(self, where: paths.Paths, *, https: int, redirect: bool) -> None:
        self._where = where
        self._table = table.Table(where)
        self._https = https
        self._redirect = redirect
        self._turn = itertools.count()
        self._session: aiohttp.ClientSession | None = None
        self._once: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Forwarder:
        self._session, self._once = self._client(kept=True), self._client(kept=False)
        return self

    def _client(self, *, kept: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=dial.Connector(self._find, kept=kept),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None),
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE),
            max_line_size=MAX_FIELD,
            max_field_size=MAX_FIELD,
        )

    async def __aexit__(self, *_: object) -> None:
        for session in (self._session, self._once):
            if session is not None:
                await session.close()

    def target(self, host: str) -> dial.Target | None:
        """Where a connection for the host leads that is not HTTP/1.1."""
        _, service = self._table.routes().find(host)
        if service is None or not service.port:
            return None
        placed = [(each, table.locate(self._where, each)) for each in self._in_turn(service)]
        running = [(each, place) for each, place in placed if place is not None]
        return dial.Target(*running[0], service.port) if running else None

    def _find(self, container: str) -> tuple[routes.Instance, table.Place | None]:
        instance = self._table.routes().instances.get(container)
        if instance is None:
            raise dial.NotRunning("it was removed")
        return instance, table.locate(self._where, instance)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        host = _host(request)
        if not routes.is_ours(host):
            return _say(request, answers.foreign(host))
        if self._redirect and not request.secure:
            # Not for ever: the next proxy may listen on another port.
            return web.Response(status=307, headers={hdrs.LOCATION: f"{self._url(host)}{_target(request)}"})
        known = self._table.routes()
        if host == routes.DOMAIN:
            return _say(request, answers.index(known, self._url))
        project, service = known.find(host)
        if project is not None and host.count(".") == 1:
            return _say(request, answers.project(known, project, self._url, self._runs))
        if project is None or service is None:
            return _say(request, answers.unknown(known, host, project, self._url))
        if not service.port:
            return _say(request, answers.no_port(project, service))
        try:
            return await self._lead(request, service, host)
        except dial.NotRunning as exc:
            return _say(request, answers.not_running(project, service, str(exc)))
        except dial.NobodyListens:
            return _say(request, answers.nobody_listens(project, service))
        except aiohttp.ClientError as exc:
            return _say(request, answers.broken(project, service, str(exc) or type(exc).__name__))

    def _runs(self, service: routes.Service) -> bool:
        return any(table.locate(self._where, each) is not None for each in service.instances)

    def _url(self, host: str) -> str:
        return f"https://{host}" + (f":{self._https}" if self._https != 443 else "")

    async def _lead(self, request: web.BaseRequest, service: routes.Service, host: str) -> web.StreamResponse:
        instances = self._in_turn(service)
        for left, instance in reversed(list(enumerate(instances))):
            url = yarl.URL(f"http://{instance.id}:{service.port}{_target(request)}", encoded=True)
            try:
                if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
                    return await self._websocket(request, url, host)
                return await self._pass(request, url, host)
            except (dial.NotRunning, dial.NobodyListens):
                # Nothing of the request is read before there is a connection, so another replica may have it.
                if not left:
                    raise
        raise dial.NotRunning("it has no container")

    def _in_turn(self, service: routes.Service) -> list[routes.Instance]:
        """Another one first each time."""
        turn = next(self._turn) % max(1, len(service.instances))
        return [*service.instances[turn:], *service.instances[:turn]]

    async def _pass(self, request: web.BaseRequest, url: yarl.URL, host: str) -> web.StreamResponse:
        headers = _headers(request.headers, HOP | _FORWARDED)
        headers.update(_forwarded(request, host))
        body = _body(request) if request.body_exists else None
        # A kept connection may just be ended by the service, and what was sent on it must be sent again: aiohttp does,
        # but it can't have a body twice, nor may some requests be made twice (RFC 9110, 9.2.2).
        again = body is None and request.method in _REPEATABLE
        session = self._session if again else self._once
        assert session is not None
        async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=_headers(answer.headers, HOP)
            )
            response[_UNSAID] = [name for name in (hdrs.CONTENT_TYPE, hdrs.SERVER) if name not in answer.headers]
            await response.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (aiohttp.ClientError, ConnectionError):
                # The head is out: all that is left to say is that this is not the whole of it.
                if request.transport is not None:
                    request.transport.abort()
            return response

    async def _websocket(self, request: web.BaseRequest, url: yarl.URL, host: str) -> web.StreamResponse:
        assert self._session is not None
        headers = _headers(request.headers, HOP | _FORWARDED | _WEBSOCKET)
        headers.update(_forwarded(request, host))
        wanted = request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [each.strip() for each in wanted.split(",") if each.strip()]
        try:
            inner = await self._session.ws_connect(
                url, headers=headers, protocols=protocols, autoping=False, autoclose=False, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as exc:
            refused = _headers(exc.headers, HOP | {"content-length", "content-encoding"}) if exc.headers else None
            # An answer to something else than was asked is none.
            return web.Response(status=exc.status if exc.status >= 300 else 502, headers=refused)
        async with inner:
            outer = web.WebSocketResponse(
                protocols=[inner.protocol] if inner.protocol else (),
                autoping=False,
                autoclose=False,
                compress=False,
                max_msg_size=0,
            )
            await outer.prepare(request)
            await _both_ways(outer, inner)
            return outer


_End = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _both_ways(one: _End, other: _End) -> None:
    """Until either ends, and then both as that one did."""
    ways = [asyncio.create_task(_carry(one, other)), asyncio.create_task(_carry(other, one))]
    try:
        ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        code, reason = ended.pop().result()
        for each in (other, one):
            await each.close(code=code, message=reason)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(source: _End, sink: _End) -> tuple[int, bytes]:
    """Messages of one way. Why it ended: a code and a reason, as they are sent in the end."""
    try:
        while True:
            message = await source.receive()
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    await sink.send_str(message.data)
                case aiohttp.WSMsgType.BINARY:
                    await sink.send_bytes(message.data)
                case aiohttp.WSMsgType.PING:
                    await sink.ping(message.data)
                case aiohttp.WSMsgType.PONG:
                    await sink.pong(message.data)
                case aiohttp.WSMsgType.CLOSE:
                    # 0: it gave none; 1005 and 1006 say so, and are never sent (RFC 6455, 7.4.1).
                    code = aiohttp.WSCloseCode.OK if message.data in {0, 1005, 1006} else message.data
                    return code, (message.extra or "").encode()
                case _:
                    break
    except ConnectionError:
        pass
    return aiohttp.WSCloseCode.GOING_AWAY, b""


async def trim(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """For ``on_response_prepare``: without what aiohttp adds to a service's headers. A page whose type isn't said is
    looked at by browsers, and `application/octet-stream` downloaded."""
    for name in response.get(_UNSAID, ()):
        response.headers.popall(name, None)


_UNSAID = "devenv.unsaid"


def _headers(given: MultiMapping[str], without: frozenset[str]) -> CIMultiDict[str]:
    named = {each.strip().lower() for value in given.getall(hdrs.CONNECTION, ()) for each in value.split(",")}
    return CIMultiDict((name, value) for name, value in given.items() if name.lower() not in without | named)


def _forwarded(request: web.BaseRequest, host: str) -> dict[str, str]:
    """What who asks says of himself is not passed on: there is no other proxy before this one."""
    scheme = "https" if request.secure else "http"
    local = request.get_extra_info("sockname")
    return {
        "X-Forwarded-For": request.remote or "",
        "X-Forwarded-Host": request.headers.get(hdrs.HOST, host),
        "X-Forwarded-Port": str(local[1]) if local else "",
        "X-Forwarded-Proto": scheme,
    }


def _target(request: web.BaseRequest) -> str:
    """The path and the query as they were written."""
    target = request.raw_path
    if not target.startswith("/"):
        # In absolute form, as to a proxy that was configured.
        target = yarl.URL(target, encoded=True).raw_path_qs
    return target


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        yield chunk


def _host(request: web.BaseRequest) -> str:
    given = request.headers.get(hdrs.HOST, "").lower()
    return given.partition(":")[0].removesuffix(".")


def _say(request: web.BaseRequest, answer: answers.Answer) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    if "text/html" in request.headers.get(hdrs.ACCEPT, ""):
        # Who waits for a service to come up sees it come up.
        again = request.method == hdrs.METH_GET and answer.status in {502, 503}
        page = answer.page.html(again=again)
        return web.Response(status=answer.status, text=page, content_type="text/html", headers=headers)
    return web.Response(status=answer.status, text=answer.page.text(), headers=headers)
