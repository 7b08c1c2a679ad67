"""The monitor's event loop: one epoll, one heap of timers. It has what asyncio has that the monitor needs, in 1 ms."""

from __future__ import annotations

import contextlib
import heapq
import select
import sys
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANGUP = select.EPOLLHUP | select.EPOLLERR  # always reported, asked for or not: epoll_ctl(2)

Handler = Callable[[int], None]


class Timer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._running = False

    def add(self, descriptor: int, mask: int, handler: Handler) -> None:
        """``handler`` must bear being called for nothing: a number that was closed may be in use again."""
        self._epoll.register(descriptor, mask)
        self._handlers[descriptor] = handler

    def modify(self, descriptor: int, mask: int) -> None:
        self._epoll.modify(descriptor, mask)

    def remove(self, descriptor: int) -> None:
        """Before the descriptor is closed. Removing what isn't there is no error."""
        if self._handlers.pop(descriptor, None) is not None:
            # The close that follows takes it out of the epoll set as well.
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, timer))
        return timer

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        self._running = True
        while self._running:
            self.turn()

    def turn(self, limit: float | None = None) -> None:
        """Wait once and do what is due. What a handler raises is written down and costs only that one event."""
        timeout = limit
        if self._timers:
            left = max(0.0, self._timers[0][0] - time.monotonic())
            timeout = left if timeout is None else min(left, timeout)
        for descriptor, mask in self._epoll.poll(timeout):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                _guarded(lambda handler=handler, mask=mask: handler(mask))  # type: ignore[misc]
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                _guarded(callback)

    def close(self) -> None:
        self._epoll.close()


def _guarded(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001  the monitor outlives its own mistakes
        import traceback  # 3 ms that a start without mistakes need not spend

        sys.stderr.write(traceback.format_exc())
        sys.stderr.flush()
