"""Names of a project's containers, by each container's own ``/etc/hosts``.

    127.0.0.1   localhost                   always
    172.18.0.2  3f2a…  web                  itself: its hostname
    10.0.0.7    db.example                  extra_hosts, links
    172.18.0.3  shop-db-1 db database       everyone it shares a network with: container name, service, aliases

Pure rendering and one writer. A file is rewritten in place, because it is bind-mounted: a renamed one would never be
seen inside. All replicas of a service are listed, each container beginning with another one, so that clients spread.
Until there is a name server, this is all: it needs no process, so names keep resolving when every engine is dead.
"""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence

LOCAL = (
    ("127.0.0.1", ("localhost",)),
    ("::1", ("localhost", "ip6-localhost", "ip6-loopback")),
    ("fe00::0", ("ip6-localnet",)),
    ("ff00::0", ("ip6-mcastprefix",)),
    ("ff02::1", ("ip6-allnodes",)),
    ("ff02::2", ("ip6-allrouters",)),
)
HOST_GATEWAY = "host-gateway"
HOST_NAME = "host.docker.internal"


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A container in one network: its addresses there, and what the others there call it."""

    addresses: tuple[str, ...]
    names: tuple[str, ...]  # container name, service, aliases


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One container, as far as names go."""

    id: str
    path: str  # its hosts file, on the host; empty for one that has none of its own to write
    hostname: str
    domainname: str = ""
    service: str = ""
    places: Mapping[str, Place] = dataclasses.field(default_factory=dict)  # by network
    running: bool = True  # the others resolve it only then
    extra_hosts: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # name -> addresses
    links: Mapping[str, str] = dataclasses.field(default_factory=dict)  # alias -> service, for this one's eyes only
    host_gateway: str = ""  # what `host-gateway` stands for; empty when the host can't be reached


def render(host: Host, others: Iterable[Host]) -> str:
    """The content of ``host``'s hosts file; ``others`` may hold ``host`` itself."""
    lines = [_line(address, names) for address, names in LOCAL]
    own = tuple(dict.fromkeys(name for name in (_qualified(host), host.hostname) if name))
    mine = [address for place in host.places.values() for address in place.addresses]
    # Without a network it still has to resolve its own name (sudo and many servers do): 127.0.1.1 as Debian has it.
    lines += [_line(address, own) for address in mine or ["127.0.1.1"] if own]
    for name, addresses in host.extra_hosts.items():
        for address in addresses:
            actual = host.host_gateway if address == HOST_GATEWAY else address
            if actual:
                lines.append(_line(actual, (name,)))
    if host.host_gateway and HOST_NAME not in host.extra_hosts:
        lines.append(_line(host.host_gateway, (HOST_NAME,)))
    for address, names in _peers(host, others):
        lines.append(_line(address, names))
    return "".join(lines)


def _line(address: str, names: Iterable[str]) -> str:
    return f"{address}\t{' '.join(names)}\n"


def _qualified(host: Host) -> str:
    return f"{host.hostname}.{host.domainname}" if host.domainname else ""


def _peers(host: Host, others: Iterable[Host]) -> list[tuple[str, tuple[str, ...]]]:
    """Address and names of every running container in a network of the host's, itself included."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for other in sorted(others, key=lambda item: item.id):
        if not (other.running or other.id == host.id):
            continue
        linked = tuple(alias for alias, service in host.links.items() if service == other.service)
        for network in sorted(host.places):
            place = other.places.get(network)
            if place is not None:
                names = tuple(dict.fromkeys((*place.names, *linked)))
                found += [(address, names) for address in place.addresses if names]
    if not found:
        return found
    start = zlib.crc32(host.id.encode()) % len(found)
    return found[start:] + found[:start]


def write(path: str, content: str) -> bool:
    """Make ``content`` the file's, keeping its inode; True if it changed.

    One write, with the rest of a longer old content blanked by it before the file is cut, so that whoever reads
    meanwhile sees no half of a line of either.
    """
    data = content.encode()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size == len(data) and os.pread(descriptor, size, 0) == data:
            return False
        padded = data.ljust(size, b"\n")
        done = 0
        while done < len(padded):
            done += os.pwrite(descriptor, padded[done:], done)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
    return True


def update(hosts: Iterable[Host]) -> int:
    """Rewrite the hosts file of every container that has one; how many changed. Called at each start and stop."""
    every = list(hosts)
    changed = 0
    for host in every:
        if host.path:
            try:
                changed += write(host.path, render(host, every))
            except FileNotFoundError:
                # Its folder went while we looked: it was removed.
                continue
    return changed
