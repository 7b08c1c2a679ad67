"""A container's ``/etc/resolv.conf``: the host's, without what can't work from inside a network of its own.

A resolver on the host's loopback (systemd-resolved's 127.0.0.53, dnsmasq) is another loopback inside, so it is
replaced by those that it asks itself. What the spec says (``dns``, ``dns_search``, ``dns_opt``) comes first.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PATH = "/etc/resolv.conf"
# systemd-resolved(8): the file with the servers that it uses itself.
UPSTREAM = "/run/systemd/resolve/resolv.conf"


class Settings(NamedTuple):
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> Settings:
    """As resolv.conf(5) has it: ``search`` and ``domain`` exclude each other and the last one counts."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.partition("#")[0].partition(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:])
        elif words[0] == "options":
            options += words[1:]
    return Settings(tuple(nameservers), search, tuple(options))


def is_local(nameserver: str) -> bool:
    """Whether only the host itself can reach it: a loopback, or an address that needs the host's own interface."""
    address, _, zone = nameserver.partition("%")
    try:
        return bool(zone) or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return True


def choose(host: str, upstream: str, replacements: Sequence[str] = ()) -> Settings:
    """The host's settings as a container can use them; ``replacements`` stand in for all of its nameservers."""
    settings = parse(host)
    usable = tuple(item for item in settings.nameservers if not is_local(item))
    if replacements:
        usable = tuple(replacements)
    elif not usable:
        behind = parse(upstream)
        usable = tuple(item for item in behind.nameservers if not is_local(item))
        if not settings.search:
            settings = settings._replace(search=behind.search)
    # `edns0` and `trust-ad` speak of the resolver that was taken out; the others are the user's taste.
    options = tuple(item for item in settings.options if item not in ("edns0", "trust-ad"))
    # resolv.conf(5): more than three are ignored.
    return Settings(usable[:3], tuple(item for item in settings.search if item != "."), options)


def render(
    settings: Settings,
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
) -> str:
    """``dns_search: .`` means no search list at all, as in Docker."""
    nameservers = tuple(dns) or settings.nameservers
    domains = () if tuple(search) == (".",) else tuple(search) or settings.search
    settled = tuple(options) or settings.options
    lines = [f"nameserver {item}\n" for item in nameservers]
    if domains:
        lines.append(f"search {' '.join(domains)}\n")
    if settled:
        lines.append(f"options {' '.join(settled)}\n")
    return "".join(lines)


def _read(paths: Iterable[str]) -> str:
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read(1 << 16)
        except OSError:
            continue
    return ""


def of_host(replacements: Sequence[str] = ()) -> Settings:
    return choose(_read([PATH]), _read([UPSTREAM]), replacements)


def content(
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    replacements: Sequence[str] = (),
    shares_host: bool = False,
) -> str:
    """What to write for one container; ``shares_host`` is ``network_mode: host``, where the host's own is right."""
    if shares_host and not (dns or search or options) and os.path.exists(PATH):
        return _read([PATH])
    settings = parse(_read([PATH])) if shares_host else of_host(replacements)
    return render(settings, dns=dns, search=search, options=options)
