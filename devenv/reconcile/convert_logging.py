"""`logging`: everything is kept in files, so that `devenv logs` has it; `journald` and `syslog` get a copy."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from devenv import errors
from devenv.runtime import logforms, logforward, logwriter

_FILES = frozenset({"local", "json-file"})
_SIZES = frozenset({"max-size", "max-file"})
# What holds anyhow: a container never waits for its log, which is in memory only on its way to the disk.
_HELD = frozenset({"mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})
_OPTIONS = {
    "journald": frozenset({"tag", "labels"}),
    "syslog": frozenset({"tag", "syslog-address", "syslog-facility", "syslog-format"}),
}


def _given(service: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    logging = service.get("logging") or {}
    return logging.get("driver") or "local", {
        name: str(value) for name, value in (logging.get("options") or {}).items()
    }


def options(service: Mapping[str, Any]) -> dict[str, str]:
    """What the record keeps. Raises ``NetworkError`` for a host that has no address."""
    driver, given = _given(service)
    found = {name: value for name, value in given.items() if name in _SIZES | _OPTIONS.get(driver, frozenset())}
    if driver == "none" or driver in logforward.DRIVERS:
        found["driver"] = driver
    if found.get("syslog-address"):
        found["syslog-address"] = _resolved(found["syslog-address"])
    return found


def _resolved(address: str) -> str:
    """With a number in place of a name: the monitor, which serves many, must not wait for a resolver."""
    scheme, _, rest = address.partition("://")
    if scheme.startswith("unix"):
        return address
    host, port = _host(rest)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4]
    except (OSError, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or "that is no name of a host"
        raise errors.NetworkError(f"`logging: syslog-address: {address}` is not found: {reason}") from exc
    return f"{scheme}://[{found[0]!s}]:{port}"


def _host(rest: str) -> tuple[str, int]:
    """``host``, ``host:port``, ``[::1]:port``. Raises ``ValueError``."""
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, "514"
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(rest)
    return host.strip("[]"), int(port)


def notes(service: Mapping[str, Any]) -> list[str]:
    """What is not done."""
    driver, given = _given(service)
    if driver not in _FILES | logforward.DRIVERS | {"none"}:
        return [
            f"`logging: driver: {driver}` has no effect: logs are kept in files, which `devenv logs` reads and"
            " `devenv container inspect` names (LogPath)"
        ]
    idle = sorted(given.keys() - _SIZES - _HELD - _OPTIONS.get(driver, frozenset()))
    return [f"`logging: options: {name}` has no effect with the driver `{driver}`" for name in idle]


def missing(service: Mapping[str, Any]) -> list[str]:
    """What this machine lacks of it."""
    driver, given = _given(service)
    path = logforward.JOURNAL if driver == "journald" else ""
    if driver == "syslog":
        scheme, _, rest = given.get("syslog-address", f"unix://{logforward.SYSLOG}").partition("://")
        path = rest if scheme.startswith("unix") else ""
    if not path or os.path.exists(path):
        return []
    return [f"its logs are in files only (`devenv logs`): nothing listens on `{path}` for `driver: {driver}`"]


def problems(service: Mapping[str, Any]) -> Iterator[str]:
    driver, given = _given(service)
    size, files = given.get("max-size") or "-1", given.get("max-file") or "1"
    if size != "-1" and logwriter.parse_size(size) is None:
        yield f"`logging: max-size: {size}` is not a size: write it like 10m"
    if not files.isdecimal() or int(files) < 1:
        yield f"`logging: max-file: {files}` is not a number from 1 up"
    if driver not in logforward.DRIVERS:
        return
    markup = logforms.unknown_markup(given.get("tag", ""))
    if markup:
        yield f"`logging: tag` has `{markup}`: known are {', '.join(logforms.TAG_WORDS)}, as in {{{{.Name}}}}"
    if driver == "syslog":
        yield from _syslog(given)


def _syslog(given: Mapping[str, str]) -> Iterator[str]:
    facility, form = given.get("syslog-facility", "daemon"), given.get("syslog-format", "")
    if facility not in logforms.FACILITIES:
        yield f"`logging: syslog-facility: {facility}` is not one of {', '.join(logforms.FACILITIES)}"
    if form not in logforms.FORMATS:
        yield f"`logging: syslog-format: {form}` is not one of {', '.join(filter(None, logforms.FORMATS))}"
    address = given.get("syslog-address", f"unix://{logforward.SYSLOG}")
    scheme, _, rest = address.partition("://")
    try:
        known = scheme in logforward.SCHEMES and (rest.startswith("/") if "unix" in scheme else bool(_host(rest)))
    except ValueError:
        known = False
    if not known:
        yield f"`logging: syslog-address: {address}` is not of the form udp://HOST:PORT, tcp://HOST:PORT or unix://PATH"
