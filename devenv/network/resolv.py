"""A container's ``/etc/resolv.conf``: who to ask is the name server of the project, the rest is as the host has it.

``dns_search`` and ``dns_opt`` of the spec stand in for the host's; ``dns`` is whom the name server asks in turn. What
has no network of devenv's keeps the host's file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

PATH = "/etc/resolv.conf"


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


def choose(host: Settings, nameserver: str) -> Settings:
    """The host's settings for whoever asks ``nameserver`` and nobody else."""
    # `edns0` and `trust-ad` speak of the resolver that was taken out; the others are the user's taste.
    options = [item for item in host.options if item not in ("edns0", "trust-ad")]
    return Settings((nameserver,), tuple(item for item in host.search if item != "."), tuple(options))


def render(
    settings: Settings, *, dns: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
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


def _read() -> str:
    try:
        with open(PATH, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""


def content(
    *, dns: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = (), nameserver: str = ""
) -> str:
    """What to write for one container; ``nameserver`` is where the project's own answers it, if it does."""
    host = _read()
    if not nameserver:
        return render(parse(host), dns=dns, search=search, options=options) if dns or search or options else host
    settings = choose(parse(host), nameserver)
    if not any(item.startswith("ndots:") for item in options or settings.options):
        # A service's name is asked for as it is first: `db.corp.example` may exist, too.
        options = [*(options or settings.options), "ndots:0"]
    return render(settings, search=search, options=options)


class Current:
    """Whom the machine asks, as /etc/resolv.conf has it at the moment."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, int] | None = None
        self._found: tuple[str, ...] = ()

    def now(self) -> tuple[str, ...]:
        try:
            status = os.stat(PATH)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                with open(PATH, encoding="utf-8", errors="replace") as file:
                    self._found = parse(file.read()).nameservers
                self._seen = seen
        except OSError:
            self._found, self._seen = (), None
        # Without a line, it is this machine's own: conf(5).
        return self._found or ("127.0.0.1",)
