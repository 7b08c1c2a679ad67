"""While `run` and `exec` wait: signals are passed on, a terminal is joined to the user's, orphans reaped."""

from __future__ import annotations

import contextlib
import os
import signal

from devenv.util import terminals

_NOT_PASSED = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGURG, signal.SIGPIPE, signal.SIGWINCH}


class Forwarder:
    """``master`` is the terminal of the process, or None when it has our own streams. Made before the process runs."""

    def __init__(self, pid: int, master: int | None) -> None:
        self._pid = pid
        self._master = master
        self._pidfd = os.pidfd_open(pid)
        for number in signal.valid_signals() - _NOT_PASSED:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, self._pass_on)
        if master is not None:
            terminals.copy_size(0, master)
            # The user's terminal makes CR LF of LF; twice would be once too often, and never is right for a pipe.
            terminals.leave_line_ends(master)

    def _pass_on(self, number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        """When there is nothing to wait for: what was said until then is still shown."""
        if self._master is not None:
            terminals.drain(self._master)

    def wait(self) -> int:
        """The exit code: 128 and the signal's number when one ended it."""
        if self._master is not None:
            terminals.join(self._master, ended=self._pidfd, ending=(), line_ends=True)
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        _reap_orphans()
        return code if code >= 0 else 128 - code


def _reap_orphans() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
