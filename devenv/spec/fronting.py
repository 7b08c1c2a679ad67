"""`proxy:`, in any of its forms: how `devenv proxy` shows a service.

proxy: 8000                        the port that it leads to
proxy: {port: 8000, host: api}     and the name before that of the project, in place of the service's
proxy: false                       not at all
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv.spec import scalars

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


class Fronting(NamedTuple):
    shown: bool = True
    port: int = 0  # 0: chosen among those that it publishes or exposes
    host: str = ""  # "": by the service's name


def of(service: Mapping[str, Any]) -> Fronting:
    """Of a service in canonical form. Raises ``ValueError`` with what is wrong."""
    given = service.get("proxy")
    return parse((service.get("x-devenv") or {}).get("proxy") if given is None else given)


def parse(given: Any) -> Fronting:
    """Raises ``ValueError`` with what is wrong."""
    # As text, where a variable says it.
    word = str(given).lower()
    if given is None or word == "true":
        return Fronting()
    if word == "false":
        return Fronting(shown=False)
    if not isinstance(given, Mapping):
        return Fronting(port=_port(given))
    host = str(given.get("host") or "").lower()
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"`proxy.host: {host}` is no host name: letters, digits and hyphens, parts joined by dots")
    port = given.get("port")
    return Fronting(port=0 if port is None else _port(port), host=host)


def _port(given: Any) -> int:
    number = scalars.port(given)
    if not number:
        raise ValueError(f"`proxy` names the port `{given}`, which is none")
    return number
