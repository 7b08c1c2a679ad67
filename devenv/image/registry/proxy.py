"""Which proxy a request goes by: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, read as curl and Go read them."""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from devenv.image.registry import addresses, errors


class Proxy(NamedTuple):
    host: str
    port: int
    headers: Mapping[str, str]  # with its credentials


def choose(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    if addresses.is_loopback(host) or _is_excepted(host, port, _variable("no_proxy", environ)):
        return None
    # A CGI program gets its client's `Proxy:` header as HTTP_PROXY (CVE-2016-5385).
    given = environ.get("http_proxy", "") if "REQUEST_METHOD" in environ else _variable("http_proxy", environ)
    if scheme == "https":
        given = _variable("https_proxy", environ)
    given = given or _variable("all_proxy", environ)
    return _parse(given) if given else None


def _variable(name: str, environ: Mapping[str, str]) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _parse(text: str) -> Proxy:
    url = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = url.port
    except ValueError:
        port = -1
    if not url.hostname or port == -1:
        raise errors.RegistryError(
            "the proxy of the environment is not an address", hint="HTTPS_PROXY=http://HOST:PORT"
        )
    if url.scheme != "http":
        raise errors.RegistryError(
            f"a proxy by `{url.scheme}:` can't be used, only one by `http:`", hint="HTTPS_PROXY=http://HOST:PORT"
        )
    headers = {}
    if url.username is not None:
        pair = f"{urllib.parse.unquote(url.username)}:{urllib.parse.unquote(url.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(url.hostname, port or 80, headers)


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    name = host.strip("[]").lower().rstrip(".")
    return any(_matches(name, port, entry.strip().lower()) for entry in exceptions.split(","))


def _matches(name: str, port: int, entry: str) -> bool:
    """``example.com`` covers its subdomains, ``.example.com`` nothing but them; networks in CIDR form; ``*``."""
    if not entry:
        return False
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    wanted, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and "]" not in number:
        if int(number) != port:
            return False
        entry = wanted
    entry = entry.strip("[]").removeprefix("*")
    return name.endswith(entry) if entry.startswith(".") else name == entry or name.endswith(f".{entry}")
