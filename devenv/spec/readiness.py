"""`ready:`, in any of its forms: what has to be true of a service for others to use it.

    ready: postgres                     the greeting of a protocol, on its own port
    ready: http://:8080/health          one line for what needs no more
    ready: {tcp: 5432}
    ready: {http: {path: /health, port: 8080, status: 204}, interval: 2s, retries: 5, restart: true}
    ready: {log: "listening on .*"}     a regular expression, found in a line that was printed since the start
    ready: {exec: [pg_isready]}
    ready: {listen: true}               a socket listens on one of the ports that it publishes or exposes

One kind each. `interval`, `timeout`, `start_period` and `retries` count as in `healthcheck:`, whose place it takes.
With `restart` a service that was ready and is found unready `retries` times is restarted.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv.spec import scalars

# The protocols that are greeted, and the ports that are theirs.
PROTOCOLS = {
    "postgres": 5432,
    "mysql": 3306,
    "redis": 6379,
    "rabbitmq": 5672,
    "mongodb": 27017,
    "memcached": 11211,
    "nats": 4222,
    "smtp": 25,
}
ALIASES = {
    "postgresql": "postgres",
    "mariadb": "mysql",
    "valkey": "redis",
    "amqp": "rabbitmq",
    "mongo": "mongodb",
}
TIMES = ("interval", "timeout", "start_period")
_KINDS = ("listen", "tcp", "http", "log", "exec", *PROTOCOLS, *ALIASES)


class Ready(NamedTuple):
    kind: str  # listen, tcp, http, log, exec or a protocol
    port: int = 0  # 0: the one that the service publishes or exposes
    host: str = ""  # "": localhost, else the service's own addresses
    path: str = "/"
    tls: bool = False
    status: int = 0  # 0: any below 400
    pattern: str = ""
    command: tuple[str, ...] = ()  # as a `healthcheck.test` has it
    retries: int = 0
    restart: bool = False
    times: Mapping[str, str] = {}  # of those of TIMES that were given


def parse(given: Any) -> Ready:
    """Raises ``ValueError`` with what is wrong."""
    if isinstance(given, str):
        return _line(given)
    kinds = [name for name in _KINDS if name in given]
    if len(kinds) != 1:
        names = ", ".join(f"`{name}`" for name in (kinds or _KINDS))
        raise ValueError(f"`ready` takes one of {names}")
    retries = int(given.get("retries") or 0)
    if retries < 0:
        raise ValueError(f"`ready.retries` is {retries}")
    found = _kind(kinds[0], given[kinds[0]])
    times = {name: scalars.duration(scalars.show(given[name])) for name in TIMES if given.get(name) is not None}
    return found._replace(retries=retries, restart=bool(given.get("restart")), times=times)


def _line(text: str) -> Ready:
    word = ALIASES.get(text, text)
    if word in PROTOCOLS:
        return Ready(word, PROTOCOLS[word])
    if word == "listen":
        return Ready(word)
    scheme, separator, rest = text.partition("://")
    if scheme in {"http", "https"} and separator:
        return _url(text)
    scheme = ALIASES.get(scheme, scheme)
    if separator and (scheme == "tcp" or scheme in PROTOCOLS):
        host, _, port = rest.rpartition(":")
        return Ready(scheme, _port(port), host)
    raise ValueError(
        f"`ready: {text}` is not understood: write a protocol as postgres, http://:PORT/PATH or tcp://:PORT"
    )


def _kind(name: str, given: Any) -> Ready:
    name = ALIASES.get(name, name)
    if name == "listen":
        if given is False:
            raise ValueError("`ready.listen` is false, which says nothing: leave `ready` out")
        return Ready(name)
    if name == "http":
        return _http(given)
    if name == "log":
        try:
            re.compile(given)
        except re.error as exc:
            raise ValueError(f"`ready.log` is no regular expression: {exc}") from None
        return Ready(name, pattern=given)
    if name == "exec":
        words = ("CMD-SHELL", given) if isinstance(given, str) else ("CMD", *map(str, given or ()))
        if len(words) < 2 or not words[1]:
            raise ValueError("`ready.exec` names no command")
        return Ready(name, command=words)
    if given is True or given is None:
        return Ready(name, PROTOCOLS.get(name, 0))
    if isinstance(given, Mapping):
        return Ready(name, _port(given.get("port") or PROTOCOLS.get(name, 0)), str(given.get("host") or ""))
    return Ready(name, _port(given))


def _http(given: Any) -> Ready:
    if isinstance(given, str):
        return _url(given) if "://" in given else Ready("http", path=_path(given))
    found = _url(str(given["url"])) if given.get("url") else Ready("http")
    if given.get("path"):
        found = found._replace(path=_path(str(given["path"])))
    if given.get("port"):
        found = found._replace(port=_port(given["port"]))
    status = int(given.get("status") or 0)
    if status and not 100 <= status <= 599:
        raise ValueError(f"`ready.http.status: {status}` is no status")
    return found._replace(status=status)


def _url(text: str) -> Ready:
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"`{text}` is no http or https address")
    tls = parts.scheme == "https"
    port = parts.port if parts.port is not None else 0 if not parts.hostname else 443 if tls else 80
    path = _path(parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Ready("http", port, parts.hostname or "", path, tls)


def _path(text: str) -> str:
    if not text.startswith("/") or any(character <= " " for character in text):
        raise ValueError(f"`{text}` is no path: it begins with / and has no blanks")
    return text


def _port(given: Any) -> int:
    number = scalars.port(given)
    if not number:
        raise ValueError(f"`{given}` is no port")
    return number
