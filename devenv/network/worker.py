"""The network thread: the one thread that owns netlink sockets.

An ``IPRoute`` used from a second thread silently opens another socket in that thread's namespace and leaks it, and a
thread that has moved to another network namespace must not be one that somebody else opens sockets in. So there is
one thread for all of it, callers queue, and in a user namespace it moves into the project's namespace for good.
"""

from __future__ import annotations

import concurrent.futures
import os
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from devenv.linux import netns
from devenv.network import iproute

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute

T = TypeVar("T")


class Worker:
    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], concurrent.futures.Future[Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._ip: IPRoute | None = None
        self._namespace = -1
        self.home: str | None = None  # the namespace to live in; None is where the thread was born

    def call(self, job: Callable[[], T]) -> T:
        """What ``job`` returns or raises, once it has run in the network thread."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="network", daemon=True)
                self._thread.start()
            self._jobs.put((job, future))
        return future.result()

    def close(self) -> None:
        with self._starting:
            thread, self._thread = self._thread, None
            self._jobs.put(None)
        if thread is not None:
            thread.join()
        else:
            self._jobs.get()

    @property
    def ip(self) -> IPRoute:
        """In the network thread only."""
        if self._ip is None:
            # 50 ms to import, so not before it is needed; a parent that forks engines imports it once for all.
            made = iproute.load()
            self._settle()
            self._ip = made()
        return self._ip

    @property
    def namespace(self) -> int:
        """A descriptor of the namespace that the thread belongs in; in the network thread only."""
        self._settle()
        return self._namespace

    def _settle(self) -> None:
        if self._namespace >= 0:
            return
        path = self.home or "/proc/thread-self/ns/net"
        self._namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if self.home is not None:
            netns.setns(self._namespace)

    def unsettle(self) -> None:
        """Forget the namespace and what was opened in it: its holder is gone, another one will be settled in."""
        if self._ip is not None:
            self._ip.close()
            self._ip = None
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def _run(self) -> None:
        try:
            while (item := self._jobs.get()) is not None:
                job, future = item
                try:
                    future.set_result(job())
                except BaseException as exc:  # noqa: BLE001 - it is the caller's to handle
                    future.set_exception(exc)
                # Let go of results and tracebacks before waiting for the next job.
                del item, job, future
        finally:
            self.unsettle()
