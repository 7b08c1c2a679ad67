"""From a container's pipes or terminal into its log, and to whoever is attached.

One batch is moved for each time that the loop says "readable", so that a container which floods shares the monitor
fairly with the others. A container waits, as on a real terminal, while someone who is attached to it doesn't read:
nothing is buffered without bound and nothing is dropped. Who only reads logs never makes it wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from devenv.runtime import logwriter
from devenv.runtime import loop as loops

_TTY_RETRY_SECONDS = 0.2
_DRAIN_BYTES = 4 * 1024 * 1024


class Forwarder(Protocol):
    """Who gets a copy and never makes a container wait: see ``logforward``."""

    def feed(self, stream: str, data: bytes) -> None: ...

    def close(self) -> None: ...


class Tap:
    """A pipe that gets a copy of one or both streams as they come."""

    def __init__(self, descriptor: int, streams: tuple[str, ...]) -> None:
        self.descriptor = descriptor
        self.streams = streams
        self.pending = b""
        os.set_blocking(descriptor, False)


class Output:
    def __init__(
        self,
        loop: loops.Loop,
        writer: logwriter.Writer,
        sources: dict[str, int],
        *,
        terminal: bool,
        on_end: Callable[[], None],
        forwarder: Forwarder | None = None,
    ) -> None:
        self._loop = loop
        self._writer = writer
        self._sources = dict(sources)  # the terminal's master is not ours to close
        self._terminal = terminal
        self._on_end = on_end
        self._forwarder = forwarder
        self._taps: list[Tap] = []
        self._waiting = False
        self._ended = False
        for stream, descriptor in self._sources.items():
            loop.add(descriptor, loops.READ, self._handler(stream))

    @property
    def finished(self) -> bool:
        """Whether every stream has come to its end by itself."""
        return not self._sources

    def sources(self) -> dict[str, int]:
        return dict(self._sources)

    def tap(self, descriptor: int, streams: tuple[str, ...]) -> None:
        """``descriptor`` is ours from now on: the writing end of a pipe that the client made."""
        tap = Tap(descriptor, streams)
        if self._ended:
            os.close(descriptor)
            return
        self._taps.append(tap)
        # Nothing asked for: the kernel reports EPOLLERR all the same once the reader has gone.
        self._loop.add(descriptor, 0, lambda mask: self._tap_ready(tap, mask))

    def drain(self) -> None:
        """Take what is in the pipes of a container that has ended, all of it or up to a bound."""
        for stream in tuple(self._sources):
            left = _DRAIN_BYTES
            while left > 0 and stream in self._sources:
                moved = self._move(stream)
                if not moved:
                    break
                left -= moved

    def close(self) -> None:
        """The end, by itself or because a process that outlives the container still holds a pipe."""
        if self._ended:
            return
        self._ended = True
        for stream in tuple(self._sources):
            self._close_source(stream)
        for tap in self._taps:
            if tap.pending:
                # It reads slowly: it still gets what is pending, and then its end.
                tap.streams = ()
            else:
                self._close_tap(tap)
        self._taps = [tap for tap in self._taps if tap.pending]
        for name in (b"stdout", b"stderr"):
            self._writer.end_line(name)
        self._writer.close()
        if self._forwarder is not None:
            self._forwarder.close()
        self._on_end()

    def _handler(self, stream: str) -> Callable[[int], None]:
        return lambda _mask: self._ready(stream)

    def _ready(self, stream: str) -> None:
        if stream in self._sources and not self._waiting:
            self._move(stream)
            if not self._sources:
                self.close()

    def _move(self, stream: str) -> int:
        """One batch. 0 when there is nothing, or nothing more; in the second case the source is closed."""
        descriptor = self._sources[stream]
        data = (
            self._read_terminal(descriptor, stream)
            if self._terminal
            else self._writer.pump(descriptor, stream.encode())
        )
        if data is None:
            return 0
        if not data:
            self._close_source(stream)
            return 0
        if self._forwarder is not None:
            self._forwarder.feed(stream, data)
        for tap in tuple(self._taps):
            if stream in tap.streams:
                self._feed(tap, data)
        return len(data)

    def _read_terminal(self, descriptor: int, stream: str) -> bytes | None:
        try:
            data = os.read(descriptor, logwriter.BATCH)
        except BlockingIOError:
            return None
        except OSError:
            # EIO: nobody has the terminal open now. Someone may open it again as long as the container runs.
            self._loop.remove(descriptor)
            self._loop.later(_TTY_RETRY_SECONDS, lambda: self._listen_again(stream))
            return None
        self._writer.write(stream.encode(), data)
        return data

    def _listen_again(self, stream: str) -> None:
        if stream in self._sources and not self._waiting:
            self._loop.remove(self._sources[stream])
            self._loop.add(self._sources[stream], loops.READ, self._handler(stream))

    def _close_source(self, stream: str) -> None:
        descriptor = self._sources.pop(stream)
        self._loop.remove(descriptor)
        if not self._terminal:
            os.close(descriptor)

    def _feed(self, tap: Tap, data: bytes) -> None:
        tap.pending += data
        self._tap_ready(tap, loops.WRITE)

    def _tap_ready(self, tap: Tap, mask: int) -> None:
        try:
            while tap.pending:
                tap.pending = tap.pending[os.write(tap.descriptor, tap.pending) :]
            gone = bool(mask & loops.HANGUP) or not tap.streams
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True  # EPIPE: it doesn't want more
            tap.pending = b""
        if gone:
            self._close_tap(tap)
            if tap in self._taps:
                self._taps.remove(tap)
        else:
            self._loop.modify(tap.descriptor, loops.WRITE if tap.pending else 0)
        self._wait_for_taps()

    def _close_tap(self, tap: Tap) -> None:
        self._loop.remove(tap.descriptor)
        os.close(tap.descriptor)

    def _wait_for_taps(self) -> None:
        waiting = any(tap.pending for tap in self._taps) and not self._ended
        if waiting == self._waiting:
            return
        self._waiting = waiting
        for stream, descriptor in self._sources.items():
            self._loop.remove(descriptor)
            if not waiting:
                self._loop.add(descriptor, loops.READ, self._handler(stream))
