"""Standing in other network namespaces: sockets made inside containers, and on the host by a thread that never leaves.

A socket belongs to the network namespace of the thread that made it, whoever uses it later. In a user namespace there
is no way back into the host's network namespace (setns(2) wants rights there), so the thread that wanders among the
containers never stands in it, and a ``Helper`` that stays makes the host's sockets. Standard library only.
"""

from __future__ import annotations

import _thread
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from devenv.linux import netns
from devenv.network import relay
from devenv.util import identity

Key = tuple[int, int]  # a process: its id and when it was started


class Helper:
    """A thread that stays in the host's network namespace and makes sockets there."""

    def __init__(self) -> None:
        self._go, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._go.acquire()
        self._done.acquire()
        self._job: Callable[[], Any] = lambda: None
        self._result: Any = None
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        while True:
            self._go.acquire()
            try:
                self._result = self._job()
            except OSError as exc:
                self._result = exc
            self._done.release()

    def call(self, job: Callable[[], Any]) -> Any:
        self._job = job
        self._go.release()
        self._done.acquire()
        if isinstance(self._result, OSError):
            raise self._result
        return self._result


class Namespaces:
    """Where the main thread stands. It rests in an empty namespace of its own, so as to keep no container's alive."""

    def __init__(self) -> None:
        netns.unshare()
        self._rest = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._here = self._rest

    def enter(self, descriptor: int) -> None:
        if self._here != descriptor:
            netns.setns(descriptor)
            self._here = descriptor

    def leave(self, descriptor: int) -> None:
        if self._here == descriptor:
            self.enter(self._rest)


class Container:
    """A process whose network namespace is a container's, until it ends."""

    def __init__(self, loop: relay.Loop, namespaces: Namespaces, key: Key) -> None:
        self._loop = loop
        self._namespaces = namespaces
        self._loopback = False
        self.addresses: list[str] = []
        self.ended: Callable[[], None] = lambda: None  # called once: a socket in its namespace would keep that alive
        self._namespace = self._pidfd = -1
        pid, start_time = key
        try:
            self._pidfd = os.pidfd_open(pid)
            # After the descriptor was had: now the number can't change its owner any more.
            if identity.process_start_time(pid) != start_time:
                raise ProcessLookupError
            self._namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.drop()
            return
        loop.add(self._pidfd, relay.IN, lambda events: self.drop())

    @property
    def alive(self) -> bool:
        return self._namespace >= 0

    def candidates(self, port: int) -> list[tuple[int, relay.Address]]:
        if self._namespace < 0:
            return []
        own = [(family(address), (address, port)) for address in self.addresses]
        local = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
        return [*local, *own] if self._loopback else [*own, *local]

    def enter(self) -> None:
        """Let the calling thread stand in its namespace."""
        if self._namespace < 0:
            raise ProcessLookupError
        self._namespaces.enter(self._namespace)

    def socket(self, family: int, kind: int) -> socket.socket:
        self.enter()
        return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def works(self, address: relay.Address) -> None:
        self._loopback = address[0] in ("127.0.0.1", "::1")

    def drop(self) -> None:
        """It has ended: let its namespace go."""
        ended, self.ended = self.ended, lambda: None
        ended()
        if self._namespace >= 0:
            self._namespaces.leave(self._namespace)
            os.close(self._namespace)
            self._namespace = -1
        if self._pidfd >= 0:
            self._loop.remove(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class Containers:
    """Those that somebody has a use for; each is dropped when nobody has any more."""

    def __init__(self, loop: relay.Loop) -> None:
        self._loop = loop
        self._namespaces = Namespaces()
        self._known: dict[Key, Container] = {}
        self._used: dict[str, frozenset[Key]] = {}

    def find(self, key: Key) -> Container:
        if key not in self._known:
            self._known[key] = Container(self._loop, self._namespaces, key)
        return self._known[key]

    def lend(self, key: Key, family: int) -> socket.socket:
        """A socket for streams inside a container, for another process."""
        try:
            return self.find(key).socket(family, socket.SOCK_STREAM)
        finally:
            self.use("", ())

    def use(self, user: str, keys: Iterable[Key]) -> None:
        """All that ``user`` has a use for from now on."""
        self._used[user] = frozenset(keys)
        used = frozenset[Key]().union(*self._used.values())
        for key in [key for key in self._known if key not in used]:
            self._known.pop(key).drop()


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
