"""The network that RUN has: one bridge for all builds of a user, gone with the last.

<run>/projects/devenv-build/users.lock    shared by every builder that uses it; alone by the one who takes it down
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import threading
from typing import TYPE_CHECKING

from devenv import errors
from devenv.network import resolv, store, types
from devenv.util import paths

if TYPE_CHECKING:
    from devenv.network import manager

PROJECT = "devenv-build"
# What systemd-resolved asks, where the machine itself asks that one.
UPSTREAM = "/run/systemd/resolve/resolv.conf"
_SPEC = types.NetworkSpec(name="devenv-build")


class Network:
    """One builder's use of it. Safe for threads; nothing is done before the first step asks."""

    def __init__(self, where: paths.Paths) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._manager: manager.NetworkManager | None = None
        self._users = -1

    def _open(self) -> manager.NetworkManager:
        with self._lock:
            if self._manager is None:
                self._users = _users(self._where)
                fcntl.flock(self._users, fcntl.LOCK_SH)
                # Half of what a build imports, and most of them ask nothing of it.
                from devenv.network import manager

                self._manager = manager.NetworkManager(paths=self._where, project_id=PROJECT, project_name=PROJECT)
                self._manager.ensure(_SPEC)
            return self._manager

    def gateway(self) -> str:
        return self._open().gateway([_SPEC.name], asked=True)

    def attach(self, name: str, pid: int) -> None:
        self._open().attach(name, pid, [types.EndpointSpec(network=_SPEC.name)])

    def release(self, name: str) -> None:
        self._open().release(name)

    def notes(self) -> tuple[str, ...]:
        return self._manager.notes() if self._manager is not None else ()

    def close(self) -> None:
        with self._lock:
            used, self._manager = self._manager, None
            if used is None:
                return
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # the last of them takes it down
            else:
                with contextlib.suppress(errors.NetworkError):
                    used.remove(_SPEC.name)
                    used.shutdown()
            finally:
                used.close()
                os.close(self._users)


def sweep(where: paths.Paths) -> None:
    """Take down what builders left that were killed, unless somebody uses it."""
    if not store.load_project(where, PROJECT):
        return
    from devenv.network import manager

    users = _users(where)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        left = manager.NetworkManager(paths=where, project_id=PROJECT, project_name=PROJECT)
        with contextlib.suppress(errors.NetworkError):
            left.remove(_SPEC.name)
            left.shutdown()
        left.close()
    finally:
        os.close(users)


def _users(where: paths.Paths) -> int:
    folder = where.project_run(PROJECT)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.open(f"{folder}/users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def resolver(path: str = resolv.PATH, upstream: str = UPSTREAM) -> str:
    """The content of a step's /etc/resolv.conf: the machine's servers, but none that it alone reaches."""
    settings = resolv.parse(_read(path))
    servers = [each for each in settings.nameservers if not _is_local(each)]
    if not servers:
        behind = resolv.parse(_read(upstream))
        servers = [each for each in behind.nameservers if not _is_local(each)]
        settings = settings._replace(search=settings.search or behind.search)
    options = tuple(each for each in settings.options if each not in {"edns0", "trust-ad"})
    # resolv.conf(5): more than three are ignored.
    return resolv.render(resolv.Settings(tuple(servers[:3]), settings.search, options))


def _is_local(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return True
    return address.is_loopback or address.is_link_local


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""
