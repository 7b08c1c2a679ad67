"""Connections to registries: kept alive, shared by threads, timed, by way of a proxy where the environment says so.

Every wait has an end: for a connection, for the next byte, and for a whole answer's head, so that a server that
sends one byte a minute holds nobody. ``abort`` ends what is under way from another thread.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

from devenv import __version__
from devenv.image.registry import addresses, errors, hosts, proxy

CONNECT_PATIENCE = 20.0
IDLE_PATIENCE = 30.0  # for the next byte
HEAD_PATIENCE = 60.0  # for the whole head of an answer
SMALL_PATIENCE = 60.0  # for the whole body of an answer that must be small
_BLOCK = 256 << 10  # of what is sent
_BUFFER = 64 << 10

USER_AGENT = f"devenv/{__version__}"


class Body(NamedTuple):
    """Something to send that can be sent again."""

    open: Callable[[], IO[bytes]]
    size: int


def of_bytes(data: bytes) -> Body:
    return Body(lambda: io.BytesIO(data), len(data))


class NotTls(Exception):
    """Whoever listens there speaks plain HTTP."""


class Response:
    """An answer whose body has still to be read. ``close`` gives the connection back if nothing is left of it."""

    def __init__(self, pool: Connections, key: Any, connection: http.client.HTTPConnection, answer: _Answer) -> None:
        self._pool = pool
        self._key = key
        self._connection = connection
        self._answer = answer
        self.status = answer.status
        self.headers = answer.headers
        self.length = answer.length
        self._emptied = False

    def readinto(self, buffer: memoryview) -> int:
        """What is there, as soon as it is. 0 at the end, which may be sooner than the length says."""
        answer = self._answer
        try:
            if answer.isclosed():
                return 0
            if answer.chunked or answer.length is None:
                return answer.readinto(buffer)
            # HTTPResponse's own waits until the buffer is full, and a cut would take along what came before it.
            count = self._take(buffer[: answer.length])
            answer.length -= count
            if count == 0 or answer.length == 0:
                answer.close()
            return count
        except (OSError, http.client.HTTPException) as exc:
            raise self._pool.failure(self._connection.host, exc) from exc

    def _take(self, buffer: memoryview) -> int:
        if self._emptied:
            return self._answer.timed.readinto(buffer) or 0
        # What was read with the head comes first, and no more than that is buffered.
        self._emptied = True
        data = self._answer.fp.read1(min(_BUFFER, len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def read(self, limit: int) -> bytes:
        """The whole body, which is small. Raises ``Untrustworthy`` if it is not."""
        self._answer.timed.set(SMALL_PATIENCE)
        try:
            data = self._answer.read(limit + 1)
        except (OSError, http.client.HTTPException) as exc:
            raise self._pool.failure(self._connection.host, exc) from exc
        # Without a length only one that is empty shows that it was cut, with its head.
        if len(data) < (1 if self.length is None else min(self.length, limit + 1)):
            raise self._pool.failure(self._connection.host, http.client.IncompleteRead(data))
        if len(data) > limit:
            raise errors.Untrustworthy(f"`{self._connection.host}` answers with more than {limit} bytes")
        return data

    def close(self) -> None:
        keep = self._answer.isclosed() and not self._answer.will_close
        self._answer.close()
        self._pool.put_back(self._key, self._connection, keep=keep)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Connections:
    def __init__(self, known: hosts.Hosts, environ: Mapping[str, str]) -> None:
        self._hosts = known
        self._environ = environ
        self._lock = threading.Lock()
        self._idle: dict[Any, list[http.client.HTTPConnection]] = {}
        # With its socket, which `http.client` itself lets go of where the server closes behind its answer.
        self._busy: dict[http.client.HTTPConnection, socket.socket | None] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._aborted = threading.Event()

    def request(
        self,
        method: str,
        url: addresses.Url,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        patience: float = HEAD_PATIENCE,
    ) -> Response:
        """One request, no more: redirects and refusals are the caller's. Raises ``Temporary`` and ``NotTls``."""
        while True:
            self.check()
            connection, used = self._take(url)
            connection.timeout = min(CONNECT_PATIENCE, patience)
            connection.response_class = functools.partial(_Answer, patience=patience)  # type: ignore[assignment]
            try:
                answer = self._send(connection, method, url, headers, body)
            except BaseException as exc:
                self.put_back(url.origin, connection, keep=False)
                # The server has closed a connection that it kept open for us: no news.
                if used and isinstance(exc, ConnectionError):
                    continue
                if isinstance(exc, (OSError, http.client.HTTPException)):
                    raise self.failure(url.authority, exc) from exc
                raise
            return Response(self, url.origin, connection, answer)

    def pause(self, seconds: float) -> None:
        self._aborted.wait(seconds)
        self.check()

    def check(self) -> None:
        if self._aborted.is_set():
            raise errors.RegistryError("the transfer was broken off")

    def abort(self) -> None:
        """From any thread: whoever waits for a registry gets an error now."""
        self._aborted.set()
        with self._lock:
            busy = [sock or connection.sock for connection, sock in self._busy.items()]
        for sock in busy:
            with contextlib.suppress(OSError, AttributeError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            idle = [connection for each in self._idle.values() for connection in each]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def failure(self, host: str, exc: Exception) -> Exception:
        """What to raise for it."""
        self.check()
        if isinstance(exc, ssl.SSLCertVerificationError):
            return _untrusted(host, exc)
        if isinstance(exc, ssl.SSLError) and exc.reason in _PLAIN_REASONS:
            return NotTls(host)
        if isinstance(exc, socket.gaierror):
            error = errors.Unreachable(
                f"`{host}` can't be found: {exc.strerror}", hint="check its name and the network"
            )
            return errors.Temporary(error) if exc.errno == socket.EAI_AGAIN else error
        if isinstance(exc, http.client.HTTPException) and not isinstance(exc, _BROKEN_OFF):
            broken = errors.Untrustworthy(f"`{host}` does not answer as a registry does: {type(exc).__name__}")
            # A head that was cut off looks like a broken one; only one that is too long is surely none.
            return broken if type(exc) in _TOO_LONG else errors.Temporary(broken)
        if isinstance(exc, ssl.SSLError):
            return errors.Temporary(errors.Unreachable(f"TLS with `{host}` fails: {exc.reason or exc}"))
        if isinstance(exc, http.client.IncompleteRead):
            return errors.Temporary(
                errors.Unreachable(f"the connection to `{host}` was cut in the middle of an answer")
            )
        reason = "no answer in time" if isinstance(exc, TimeoutError) else getattr(exc, "strerror", None) or str(exc)
        return errors.Temporary(errors.Unreachable(f"`{host}` can't be reached: {reason}"))

    # -- the pool ---------------------------------------------------------------------------------------------

    def _take(self, url: addresses.Url) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            idle = self._idle.get(url.origin)
            found = idle.pop() if idle else None
            if found is not None:
                self._busy[found] = found.sock
                return found, True
        connection = self._make(url)
        with self._lock:
            self._busy[connection] = None
        return connection, False

    def put_back(self, key: Any, connection: http.client.HTTPConnection, *, keep: bool) -> None:
        with self._lock:
            self._busy.pop(connection, None)
            if keep and not self._aborted.is_set():
                self._idle.setdefault(key, []).append(connection)
                return
        connection.close()

    def _make(self, url: addresses.Url) -> http.client.HTTPConnection:
        via = proxy.choose(url.scheme, url.host, url.port, self._environ)
        host, port = (via.host, via.port) if via else (url.host, url.port)
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=CONNECT_PATIENCE, context=self._context(url), blocksize=_BLOCK
            )
            if via:
                connection.set_tunnel(url.host, url.port, dict(via.headers))
        else:
            connection = http.client.HTTPConnection(host, port, timeout=CONNECT_PATIENCE, blocksize=_BLOCK)
        connection.plain_proxy = via if url.scheme == "http" else None  # type: ignore[attr-defined]
        return connection

    def _context(self, url: addresses.Url) -> ssl.SSLContext:
        with self._lock:
            if url.authority not in self._contexts:
                self._contexts[url.authority] = self._hosts.tls(self._hosts.origin(url.authority))
            return self._contexts[url.authority]

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        url: addresses.Url,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> _Answer:
        via: proxy.Proxy | None = connection.plain_proxy  # type: ignore[attr-defined]
        target = str(url) if via else url.path
        sent = {"Host": url.authority, "User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        if via:
            sent |= via.headers
        stream = body.open() if body is not None else None
        try:
            if body is not None:
                sent["Content-Length"] = str(body.size)
            try:
                connection.request(method, target, stream, sent)
            except ConnectionError:
                # Who refuses a body says so and hangs up while it is still being sent: the answer may be there.
                if body is None:
                    raise
            if connection.sock is not None:
                connection.sock.settimeout(IDLE_PATIENCE)
            with self._lock:
                self._busy[connection] = connection.sock
            self.check()  # ``abort`` had no socket to shut while it was being connected
            answer = connection.getresponse()
            assert isinstance(answer, _Answer)
            answer.timed.set(None)
            return answer
        finally:
            if stream is not None:
                stream.close()


class _Timed(io.RawIOBase):
    """What a socket sends, with an end to the patience as a whole beside that for the next byte."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._end: float | None = None

    def set(self, patience: float | None) -> None:
        self._end = None if patience is None else time.monotonic() + patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        wait = IDLE_PATIENCE
        if self._end is not None:
            wait = min(wait, self._end - time.monotonic())
            if wait <= 0:
                raise TimeoutError(110, "it sends too slowly")
        self._sock.settimeout(wait)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, patience: float, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.timed = _Timed(sock)
        self.timed.set(patience)
        self.fp = io.BufferedReader(self.timed, _BUFFER)


_TOO_LONG = (http.client.LineTooLong, http.client.HTTPException)  # the second: too many lines
_BROKEN_OFF = (http.client.RemoteDisconnected, http.client.IncompleteRead)
# What OpenSSL says of an answer that is no TLS.
_PLAIN_REASONS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}


def _untrusted(host: str, exc: ssl.SSLCertVerificationError) -> errors.Unreachable:
    return errors.Unreachable(
        f"the certificate of `{host}` is not trusted: {exc.verify_message}",
        hint=f"put its CA into /etc/devenv/certs.d/{host}/ca.crt or ~/.config/devenv/certs.d/{host}/ca.crt",
    )
