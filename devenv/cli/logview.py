"""Log lines of containers as people read them: a coloured name before each, in the order of time.

    db-1   | ready
    web-1  | listening

To a terminal, control characters other than colours are shown and not sent; to a file or a pipe, the bytes go out
as the container wrote them.
"""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TextIO

from devenv.cli import inventory, table, terminal
from devenv.runtime import logs

_POLL = 0.25  # seconds; only where inotify can't be had


class Printer:
    """Writes lines; may be used from several threads."""

    def __init__(
        self,
        *,
        colour: bool,
        prefix: bool = True,
        timestamps: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self._streams = {"stdout": stdout or sys.stdout, "stderr": stderr or sys.stderr}
        self._guarded = {name: terminal.is_terminal(stream) for name, stream in self._streams.items()}
        self._colour = colour
        self._prefix = prefix
        self._timestamps = timestamps
        self._colours: dict[str, str] = {}
        self._width = 0
        self._open: tuple[str, str] | None = None  # container and stream whose last line has not ended yet
        self._lock = threading.Lock()

    def know(self, containers: Iterable[inventory.Container]) -> None:
        """Learn names beforehand, so that the column is wide enough from the first line on."""
        for item in containers:
            self._width = max(self._width, table.width(item.label))
            if item.record.service not in self._colours:
                code = terminal.PALETTE[len(self._colours) % len(terminal.PALETTE)]
                self._colours[item.record.service] = code

    def line(self, container: inventory.Container, line: logs.Line) -> None:
        stream = self._streams.get(line.stream) or self._streams["stdout"]
        data = line.data
        if self._guarded.get(line.stream):
            # A pty writes \r\n, and a carriage return at the very end would show as ^M on every line.
            text = data.rstrip(b"\r").decode("utf-8", "backslashreplace")
            shown = terminal.visible_log(text)
            data = (shown if self._colour else terminal.without_colours(shown)).encode("utf-8", "backslashreplace")
        stamp = f"{line.time} ".encode() if self._timestamps else b""
        source = (container.record.id, line.stream)
        with self._lock:
            # The next piece of a line that is too long for one follows as if there had been no seam.
            if self._open != source:
                self._end_line()
                data = self._head(container) + stamp + data
            _write(stream, data if line.partial else data + b"\n")
            self._open = source if line.partial else None

    def say(self, container: inventory.Container, text: str) -> None:
        """Something about a container, at the place of its lines."""
        with self._lock:
            self._end_line()
            words = terminal.visible(f"{container.label} {text}")
            colour = self._colours.get(container.record.service, "0")
            _write(self._streams["stderr"], terminal.paint(words, colour, colour=self._colour).encode() + b"\n")

    def note(self, text: str) -> None:
        """Something about no container in particular."""
        with self._lock:
            self._end_line()
            _write(self._streams["stderr"], terminal.visible_log(text).encode("utf-8", "backslashreplace") + b"\n")
            self._streams["stderr"].flush()

    def end(self) -> None:
        """Nothing more comes: whatever is printed next begins on a line of its own."""
        with self._lock:
            self._end_line()
        self.flush()

    def flush(self) -> None:
        with self._lock:
            for stream in self._streams.values():
                stream.flush()

    def _end_line(self) -> None:
        if self._open is not None:
            _write(self._streams.get(self._open[1]) or self._streams["stdout"], b"\n")
            self._open = None

    def _head(self, container: inventory.Container) -> bytes:
        if not self._prefix:
            return b""
        name = table.pad(terminal.visible(container.label), self._width)
        colour = self._colours.get(container.record.service, "0")
        return terminal.paint(f"{name}  | ", colour, colour=self._colour).encode("utf-8", "backslashreplace")


def _write(stream: TextIO, data: bytes) -> None:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(data.decode("utf-8", "backslashreplace"))
    else:
        buffer.write(data)


class Background:
    """Prints what containers write, on a thread of its own, while a command does something else."""

    def __init__(self, printer: Printer, *, since: float | None, on_failure: Callable[[], None] = lambda: None) -> None:
        """``on_failure`` is called, on that thread, when nobody reads what is printed any more."""
        self._printer = printer
        self._on_failure = on_failure
        self._since = since
        self._orders: queue.SimpleQueue[tuple[inventory.Container, str | None]] = queue.SimpleQueue()
        self._containers: dict[str, inventory.Container] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._ending = threading.Event()
        self.failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def follow(self, container: inventory.Container) -> None:
        """Show this one's lines, from the beginning or from ``since``. Once is enough, but more does no harm."""
        self._order(container, None)

    def say(self, container: inventory.Container, text: str) -> None:
        """Print ``text`` about it, after the lines that it has written so far."""
        self._order(container, text)

    def finish(self) -> None:
        """Print what there is, and end."""
        self._ending.set()
        self._nudge()
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _order(self, container: inventory.Container, text: str | None) -> None:
        self._orders.put((container, text))
        self._nudge()

    def _nudge(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            pass  # it has been woken more often than it could look

    def _run(self) -> None:
        follower = logs.Follower(since=self._since)
        try:
            while not self._ending.is_set():
                self._step(follower)
                self._wait(follower)
            self._step(follower)
            for key in follower.keys():  # noqa: SIM118  not a dict
                self._print(follower.discard(key))
            self._printer.end()
        except (OSError, ValueError) as error:
            self.failed = error
            self._on_failure()
        finally:
            follower.close()

    def _step(self, follower: logs.Follower) -> None:
        sayings = []
        while not self._orders.empty():
            container, text = self._orders.get()
            if container.record.id not in self._containers:
                self._containers[container.record.id] = container
                follower.add(container.record.id, container.folder)
            if text is not None:
                sayings.append((container, text))
        self._print(follower.read())
        for container, text in sayings:
            self._printer.say(container, text)
        self._printer.flush()

    def _print(self, lines: Iterable[tuple[str, logs.Line]]) -> None:
        for key, line in lines:
            self._printer.line(self._containers[key], line)

    def _wait(self, follower: logs.Follower) -> None:
        descriptors = [self._wake_read]
        if follower.fileno() >= 0:
            descriptors.append(follower.fileno())
        seconds = None if follower.fileno() >= 0 else _POLL
        select.select(descriptors, [], [], 0 if follower.behind else seconds)
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
