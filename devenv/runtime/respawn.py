"""Bringing the supervisor back: who said hello as one and went without a bye has crashed, and containers need it.

What is started here is our child; it is reaped with all that the monitor inherits as a subreaper.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from devenv.runtime import backend
from devenv.runtime import loop as loops

FIRST_SECONDS = 0.1
LAST_SECONDS = 5.0
_STEADY_SECONDS = 10.0  # a supervisor that lived this long starts the count anew


class Respawner:
    def __init__(self, loop: loops.Loop, argv: list[str], *, log: str, needed: Callable[[], bool]) -> None:
        self._loop = loop
        self._argv = argv
        self._log = log
        self._needed = needed
        self._delay = FIRST_SECONDS
        self._since = 0.0
        self._timer: loops.Timer | None = None
        self.present = False

    def greeted(self) -> None:
        self.present = True
        self._since = time.monotonic()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def gone(self, *, said_bye: bool) -> None:
        self.present = False
        if said_bye:
            return
        if time.monotonic() - self._since > _STEADY_SECONDS:
            self._delay = FIRST_SECONDS
        self._schedule()

    def _schedule(self) -> None:
        if self._argv and self._needed() and self._timer is None:
            self._timer = self._loop.later(self._delay, self._spawn)
            self._delay = min(self._delay * 2, LAST_SECONDS)

    def _spawn(self) -> None:
        self._timer = None
        if self.present or not self._needed():
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            pid = os.posix_spawn(
                self._argv[0],
                self._argv,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, self._log, flags & ~os.O_CLOEXEC, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                # What Python itself ignores would stay ignored over the exec.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as exc:
            backend.note(f"the supervisor can't be started: {exc}")
        else:
            backend.note(f"started the supervisor again, pid {pid}")
        # Should it not say hello, this tries again.
        self._schedule()
