"""A container's ``/etc/hosts``: its own names, and those that the spec gives by address.

    127.0.0.1   localhost                            always
    172.18.0.2  3f2a…                                itself: its hostname
    10.0.0.7    db.example                           extra_hosts
    172.18.0.1  host.docker.internal                 where the host can be reached

The others' names are the name server's (``names``, ``nameserver``). Pure rendering and one writer: a file is rewritten
in place, because it is bind-mounted, and a renamed one would never be seen inside.
"""

from __future__ import annotations

import dataclasses
import os
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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One container, as far as its own names go."""

    hostname: str
    domainname: str = ""
    addresses: tuple[str, ...] = ()
    extra_hosts: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # name -> addresses
    host_gateway: str = ""  # what `host-gateway` stands for; empty when the host can't be reached


def given(host: Host) -> dict[str, tuple[str, ...]]:
    """The names that the spec gives, and the host's own; one without an address is left out."""
    found: dict[str, tuple[str, ...]] = {}
    for name, addresses in host.extra_hosts.items():
        actual = [host.host_gateway if address == HOST_GATEWAY else address for address in addresses]
        found[name] = tuple(address for address in actual if address)
    if host.host_gateway:
        found.setdefault(HOST_NAME, (host.host_gateway,))
    return {name: addresses for name, addresses in found.items() if addresses}


def render(host: Host) -> str:
    """The content of ``host``'s hosts file."""
    lines = [_line(address, names) for address, names in LOCAL]
    own = tuple(dict.fromkeys(name for name in (_qualified(host), host.hostname) if name))
    # Without a network it still has to resolve its own name (sudo and many servers do): 127.0.1.1 as Debian has it.
    lines += [_line(address, own) for address in host.addresses or ["127.0.1.1"] if own]
    lines += [_line(address, [name]) for name, addresses in given(host).items() for address in addresses]
    return "".join(lines)


def _line(address: str, names: Iterable[str]) -> str:
    return f"{address}\t{' '.join(names)}\n"


def _qualified(host: Host) -> str:
    return f"{host.hostname}.{host.domainname}" if host.domainname else ""


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
