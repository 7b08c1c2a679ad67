"""While `run` and `exec` wait: signals are passed on, a terminal's bytes carried both ways, orphans reaped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import termios
import tty
from typing import Any

_NOT_PASSED = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGURG, signal.SIGPIPE, signal.SIGWINCH}
_CHUNK = 64 * 1024


class Forwarder:
    """``master`` is the terminal of the process, or None when it has our own streams. Made before the process runs."""

    def __init__(self, pid: int, master: int | None) -> None:
        self._pid = pid
        self._master = master
        self._pidfd = os.pidfd_open(pid)
        self._saved: Any = None
        for number in signal.valid_signals() - _NOT_PASSED:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, self._pass_on)
        if master is not None:
            signal.signal(signal.SIGWINCH, self._resize)
            self._resize()
            # The user's terminal makes CR LF of LF; twice would be once too often, and never is right for a pipe.
            _change(master, 1, clear=termios.ONLCR)
            if os.isatty(0):
                self._saved = termios.tcgetattr(0)
                tty.setraw(0)
                _change(0, 1, add=termios.OPOST)

    def _pass_on(self, number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _resize(self, *_: object) -> None:
        assert self._master is not None
        if os.isatty(0):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def close(self) -> None:
        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)

    def wait(self) -> int:
        """The exit code: 128 and the signal's number when one ended it."""
        try:
            self._carry()
        finally:
            self.close()
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        _reap_orphans()
        return code if code >= 0 else 128 - code

    def _carry(self) -> None:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if self._master is not None:
            poll.register(self._master, select.POLLIN)
            poll.register(0, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if 0 in ready and self._master is not None and not self._copy(0, self._master):
                poll.unregister(0)
            if self._master in ready and self._master is not None and not self._copy(self._master, 1):
                poll.unregister(self._master)
                self._master = None
            if self._pidfd in ready:
                self._drain()
                return

    def _copy(self, source: int, target: int) -> bool:
        """False at the end."""
        try:
            data = os.read(source, _CHUNK)
        except OSError:  # EIO: nobody has the other end any more
            return False
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        return bool(data)

    def _drain(self) -> None:
        """What the process wrote before it ended; what others still write isn't waited for."""
        if self._master is not None:
            os.set_blocking(self._master, False)
            while self._copy(self._master, 1):
                continue


def _change(terminal: int, field: int, *, add: int = 0, clear: int = 0) -> None:
    """``field``: 1 is what it does to output (termios(3), c_oflag)."""
    attributes = termios.tcgetattr(terminal)
    attributes[field] = attributes[field] & ~clear | add
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def _reap_orphans() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
