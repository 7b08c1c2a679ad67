"""Host ports that one project folder has for itself: who has which, in one file for all of them.

    <data>/ports.json   "tcp/8080": {project, folder, key}      under <data>/ports.lock

A folder keeps what it has, whether it runs or not, so that an address in a bookmark stays right; a folder that is gone
gives its ports back. Who asks for a port has it if no other folder does and nothing else listens there; else another
one is found by the folder's own name, so that it is mostly the same one even when the file is lost.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Iterable
from typing import Any, NamedTuple

from devenv import errors
from devenv.network import portproxy_client
from devenv.util import fs, identity, lock, paths

# Below what the kernel hands out for outgoing connections, above what servers are used to.
FIRST, LAST = 20000, 31999


class Ask(NamedTuple):
    key: str  # what it is for, within the project
    protocol: str
    host_ip: str
    preferred: int  # 0 for any


def allot(where: paths.Paths, project: identity.Project, asks: Iterable[Ask]) -> list[int]:
    """A port for each. Raises ``NetworkError`` when there is none left."""
    os.makedirs(where.data, mode=0o700, exist_ok=True)
    with lock.held(f"{where.data}/ports.lock"):
        before = _read(where)
        table = _Table(before, project, _own(where, project))
        found = [table.give(ask) for ask in asks]
        if table.leases != before:
            fs.write_json(f"{where.data}/ports.json", table.leases)
    return found


def _read(where: paths.Paths) -> dict[str, Any]:
    data = fs.read_json(f"{where.data}/ports.json")
    return data if isinstance(data, dict) else {}


def _own(where: paths.Paths, project: identity.Project) -> set[tuple[str, int]]:
    """What listens for this very project at the moment."""
    published = portproxy_client.published(where.project_run(project.id))
    return {(item.publication.protocol, item.port) for item in published}


class _Table:
    def __init__(self, leases: dict[str, Any], project: identity.Project, own: set[tuple[str, int]]) -> None:
        self.leases = {key: value for key, value in leases.items() if os.path.isdir(value["folder"])}
        self._project = project
        self._own = own

    def give(self, ask: Ask) -> int:
        held = [key for key, value in self.leases.items() if self._is_mine(value) and value["key"] == ask.key]
        for key in held:
            protocol, _, number = key.partition("/")
            if protocol == ask.protocol and self._can_have(ask, int(number)):
                return int(number)
            del self.leases[key]
        for port in self._candidates(ask):
            if self._can_have(ask, port):
                self.leases[f"{ask.protocol}/{port}"] = {
                    "project": self._project.id,
                    "folder": self._project.directory,
                    "key": ask.key,
                }
                return port
        raise errors.NetworkError(f"no host port from {FIRST} to {LAST} is free", hint="remove folders that need none")

    def _is_mine(self, lease: dict[str, Any]) -> bool:
        return bool(lease["project"] == self._project.id)

    def _candidates(self, ask: Ask) -> Iterable[int]:
        if ask.preferred:
            yield ask.preferred
        seed = hashlib.sha256(f"{self._project.id}/{ask.key}".encode()).digest()
        count = LAST - FIRST + 1
        start = int.from_bytes(seed[:4], "big")
        for offset in range(count):
            yield FIRST + (start + offset) % count

    def _can_have(self, ask: Ask, port: int) -> bool:
        lease = self.leases.get(f"{ask.protocol}/{port}")
        if lease is not None and not (self._is_mine(lease) and lease["key"] == ask.key):
            return False
        return (ask.protocol, port) in self._own or _is_free(ask, port)


def _is_free(ask: Ask, port: int) -> bool:
    """Whether nobody listens. An address that isn't this machine's is for the publishing to refuse."""
    for address in [ask.host_ip] if ask.host_ip else ["0.0.0.0", "::"]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_DGRAM if ask.protocol == "udp" else socket.SOCK_STREAM
        try:
            with socket.socket(family, kind) as one:
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((address, port))
        except OSError as exc:
            if exc.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                return False
    return True
