"""Joining the caller's terminal to a pseudo-terminal in a container: raw mode, resizes, and nothing left behind.

The loop ends when the process has ended and what it wrote has been shown. Bytes pass as they are: this is the one
place where a container talks to the terminal directly, because the user asked for just that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import selectors
import signal
import struct
import termios
import tty
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType

from devenv.util import detaching

_CHUNK = 32768
_END_OF_TRANSMISSION = b"\x04"


_OFLAG = 1  # of what termios.tcgetattr returns


@contextlib.contextmanager
def raw(descriptor: int, *, line_ends: bool = False) -> Iterator[None]:
    """Every key goes to the container, Ctrl-C included. A descriptor that is no terminal is left alone.

    ``line_ends``: it still makes CR LF of LF, for a pseudo-terminal that doesn't (``leave_line_ends``).
    """
    try:
        before = termios.tcgetattr(descriptor)
    except (termios.error, OSError):
        yield
        return
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        if line_ends:
            _change(descriptor, add=termios.OPOST)
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def leave_line_ends(master: int) -> None:
    """The pseudo-terminal passes LF as it is: right for a pipe, and for ``join(…, line_ends=True)``."""
    _change(master, clear=termios.ONLCR)


def _change(descriptor: int, *, add: int = 0, clear: int = 0) -> None:
    attributes = termios.tcgetattr(descriptor)
    attributes[_OFLAG] = attributes[_OFLAG] & ~clear | add
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def copy_size(source: int, target: int) -> None:
    """Give the pseudo-terminal the size of the caller's."""
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8)
        if any(struct.unpack("HHHH", size)[:2]):
            fcntl.ioctl(target, termios.TIOCSWINSZ, size)


def ask_to_redraw(source: int, target: int) -> None:
    """Before ``join``: a size that is one off, so that the right one is news to whoever draws in the pseudo-terminal.

    SIGWINCH comes with a change alone (ioctl_tty(2)); without it, who attaches sees nothing until something changes.
    """
    with contextlib.suppress(OSError):
        rows, columns, *pixels = struct.unpack("HHHH", fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8))
        if rows and columns:
            fcntl.ioctl(target, termios.TIOCSWINSZ, struct.pack("HHHH", rows + 1, columns + 1, *pixels))


def join(
    master: int,
    *,
    source: int | None = None,
    ended: int | None = None,
    interactive: bool = True,
    stdin: int = 0,
    stdout: int = 1,
    ending: Iterable[int] = (signal.SIGTERM, signal.SIGHUP),
    line_ends: bool = False,
    keys: bytes = b"",
    also: Mapping[int, Callable[[], bool]] | None = None,
) -> bool:
    """Carry bytes both ways until ``ended`` (a pidfd) is readable or nobody holds the other end of ``master``.

    ``source`` is where the container's output comes from when somebody else reads ``master``. ``ending`` are the
    signals that end it too, in good order. With ``keys`` whoever types them leaves, and so does a terminal that has
    gone, in place of typing the end of input: True is returned then. ``also``: descriptors to listen to besides, and
    what to call when there is something; it says whether to go on listening.
    """
    with contextlib.ExitStack() as stack:
        wake = stack.enter_context(_signals(ending))
        if interactive:
            stack.enter_context(raw(stdin, line_ends=line_ends))
        os.set_blocking(master, False)
        copy_size(stdout, master)
        if source is not None:
            os.set_blocking(source, False)
        typing = stdin if interactive else None
        joint = _Joint(master, master if source is None else source, ended, wake, stdin=typing, stdout=stdout)
        joint.keys = detaching.Keys(keys) if keys else None
        joint.run(also or {})
        return joint.left


def drain(source: int, stdout: int = 1) -> None:
    """Show what is there already and no more: a process that was left behind may hold the terminal for ever."""
    os.set_blocking(source, False)
    while True:
        try:
            data = os.read(source, _CHUNK)
        except OSError:
            return
        if not data:
            return
        write_all(stdout, data)


@contextlib.contextmanager
def _signals(ending: Iterable[int]) -> Iterator[int]:
    """A descriptor that is readable after SIGWINCH. Those that end the loop do so with raw mode undone."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def nothing(_number: int, _frame: FrameType | None) -> None:
        pass

    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGWINCH: nothing}
    handlers |= dict.fromkeys(ending, end)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


class _Joint:
    def __init__(
        self, master: int, source: int, ended: int | None, wake: int, *, stdin: int | None, stdout: int
    ) -> None:
        self._master = master
        self._source = source
        self._ended = ended
        self._wake = wake
        self._stdin = stdin
        self._stdout = stdout
        self.keys: detaching.Keys | None = None
        self.left = False  # the user has, by the keys or with the terminal
        self._pending = b""  # typed, and not taken by the container yet: no more is read until it has been
        self._pollable = True
        self._running = True

    def run(self, also: Mapping[int, Callable[[], bool]]) -> None:
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            for descriptor, call in also.items():
                selector.register(descriptor, selectors.EVENT_READ, self._listener(descriptor, call))
            selector.register(self._source, selectors.EVENT_READ, self._on_output)
            selector.register(self._wake, selectors.EVENT_READ, self._on_resize)
            if self._ended is not None:
                selector.register(self._ended, selectors.EVENT_READ, self._on_end)
            if self._stdin is not None:
                try:
                    selector.register(self._stdin, selectors.EVENT_READ, self._on_stdin)
                except PermissionError:
                    # epoll refuses plain files (epoll_ctl(2)): they are always ready, so the container sets the pace.
                    self._pollable = False
                    self._watch_master(writing=True)
            while self._running:
                for key, mask in selector.select():
                    key.data(mask)

    def _listener(self, descriptor: int, call: Callable[[], bool]) -> Callable[[int], None]:
        def listen(_mask: int) -> None:
            if not call():
                self._selector.unregister(descriptor)

        return listen

    def _on_output(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            if self._pending:
                self._push()
            else:
                self._on_stdin(0)
        if mask & selectors.EVENT_READ and not self._show():
            self._running = False

    def _show(self) -> bool:
        """Pass on what the container wrote; False when nobody can write any more."""
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return True
        except OSError as error:
            # Every descriptor of the other end is closed: pty(7) says EIO.
            if error.errno == errno.EIO:
                return False
            raise
        write_all(self._stdout, data)
        return bool(data)

    def _on_stdin(self, _mask: int) -> None:
        if self._stdin is None:
            return
        try:
            data = os.read(self._stdin, _CHUNK)
        except OSError:
            data = b""
        if not data:
            if self._pollable:
                self._selector.unregister(self._stdin)
            self._stdin = None
            if self.keys is not None:
                self._leave()
                return
            data = _END_OF_TRANSMISSION
        elif self.keys is not None:
            data, typed = self.keys.take(data)
            if typed:
                self._leave()
        self._pending = data
        self._push()

    def _leave(self) -> None:
        self.left, self._running = True, False

    def _push(self) -> None:
        try:
            self._pending = self._pending[os.write(self._master, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:
            self._pending = b""
        if self._stdin is not None and self._pollable:
            listening = self._stdin in self._selector.get_map()
            if self._pending and listening:
                self._selector.unregister(self._stdin)
            elif not self._pending and not listening:
                self._selector.register(self._stdin, selectors.EVENT_READ, self._on_stdin)
        self._watch_master(writing=bool(self._pending) or (self._stdin is not None and not self._pollable))

    def _watch_master(self, *, writing: bool) -> None:
        if self._source == self._master:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            self._selector.modify(self._master, wanted, self._on_output)
        elif writing and self._master not in self._selector.get_map():
            self._selector.register(self._master, selectors.EVENT_WRITE, self._on_output)
        elif not writing and self._master in self._selector.get_map():
            self._selector.unregister(self._master)

    def _on_resize(self, _mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        copy_size(self._stdout, self._master)

    def _on_end(self, _mask: int) -> None:
        drain(self._source, self._stdout)
        self._running = False


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
