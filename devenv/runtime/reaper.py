"""PID 1 for a service that asked for ``init: true``: passes signals on, reaps orphans, ends with the service's code.

It is left behind as soon as there is a pid namespace, before anything of the container is set up: an interpreter that
has done hardly anything shares nearly all of its memory with the monitor.

    monitor's child, PID 1                  PID 2, to be the service
      | fork ---------------------------------> |
      |  waits                                  |  mounts, pivots (which takes PID 1's root along), says READY
      |  <-------------------------------- byte-+  START was heard
      |  no longer dies with the monitor        |
      +-byte ---------------------------------> |  drops its rights, execs
      |  signals, orphans                       |
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from devenv.linux import process as linux_process

_CAP_KILL = 1 << 5
_NOT_PASSED = frozenset({signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU})


def leave_behind(wire: socket.socket) -> socket.socket:
    """Returns in the child alone, with the socket that ``let_go`` takes. ``wire`` stays the child's."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        wire.close()
        theirs.close()
        _stay(pid, ours)
    ours.close()
    return theirs


def _stay(pid: int, child: socket.socket) -> NoReturn:
    # What comes before we wait for it would be lost: the first of a pid namespace is sent only what it awaits.
    signal.pthread_sigmask(signal.SIG_BLOCK, _awaited())
    for number in (0, 1, 2):
        os.close(number)
    if child.recv(1):
        linux_process.prctl(linux_process.PR_SET_PDEATHSIG, 0)
        # Of what the monitor may do, signals to another user's processes are all that is needed from here on.
        linux_process.capset(effective=_CAP_KILL, permitted=_CAP_KILL, inheritable=0)
        child.send(b"x")
    child.close()
    _reap(pid)


def let_go(first: socket.socket) -> None:
    """In the child: from now on the container outlives its monitor."""
    first.send(b"x")
    first.recv(1)
    first.close()


def _awaited() -> set[signal.Signals]:
    return signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def _reap(pid: int) -> NoReturn:
    awaited = _awaited()
    while True:
        number = signal.sigwait(awaited)
        if number not in _NOT_PASSED:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
            continue
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(1)
            if ended == 0:
                break
            if ended == pid:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
