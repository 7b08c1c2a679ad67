"""Addresses as registries write them, and which of them are special."""

from __future__ import annotations

import ipaddress
import urllib.parse
from typing import NamedTuple

from devenv.image.registry import errors

_PORTS = {"https": 443, "http": 80}


class Url(NamedTuple):
    scheme: str
    host: str  # without brackets
    port: int
    path: str  # with the query

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Whom credentials are for."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def with_query(self, **more: str) -> Url:
        mark = "&" if "?" in self.path else "?"
        return self._replace(path=f"{self.path}{mark}{urllib.parse.urlencode(more)}")


def parse(text: str, base: Url | None = None) -> Url:
    """An absolute address, or one relative to ``base``. Raises ``Untrustworthy``: a registry has sent it."""
    broken = errors.Untrustworthy(f"a registry sends to an address that is none: {text[:200]!r}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise broken
    try:
        url = urllib.parse.urlsplit(urllib.parse.urljoin(str(base), text) if base is not None else text)
        port = url.port
    except ValueError:
        raise broken from None
    if url.scheme not in _PORTS or not url.hostname or url.username is not None:
        raise broken
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Url(url.scheme, url.hostname, port or _PORTS[url.scheme], path)


def is_loopback(host: str) -> bool:
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def is_link_local(host: str) -> bool:
    """169.254.169.254 and its like: where clouds keep the secrets of a machine."""
    address = _address(host.strip("[]"))
    return address is not None and address.is_link_local


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
