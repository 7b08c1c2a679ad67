"""A piece of a command in a process of its own: one that may enter a namespace, begin threads and be interrupted,
none of which its parent would get rid of again.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


def run(body: Callable[[], int]) -> int:
    """The exit code of ``body``. Ctrl-C goes to the child alone, and this returns when that has ended: 128 and the
    signal's number where it was killed. For a process without threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            # Out of the terminal's foreground group: what is passed on below would come twice.
            os.setpgid(0, 0)
            code = body()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return _wait(child)


def _wait(child: int) -> int:
    while True:
        try:
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        except KeyboardInterrupt:
            try:
                os.kill(child, signal.SIGINT)
            except ProcessLookupError:
                pass
