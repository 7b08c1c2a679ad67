"""What was fetched is kept for as long as somebody uses it now and then; a folder's own time says when that was."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from devenv.util import tree

FORGOTTEN = 7 * 86400.0


def used(path: str) -> None:
    with contextlib.suppress(OSError):
        os.utime(path)


def drop_unused(folder: str, wanted: Callable[[str], bool], *, now: float | None = None) -> None:
    """Of what is in ``folder`` and has a ``wanted`` name. What can't be removed now is left for the next time."""
    before = (time.time() if now is None else now) - FORGOTTEN
    with os.scandir(folder) as entries:
        old = [
            each.path for each in entries if wanted(each.name) and each.stat(follow_symlinks=False).st_mtime < before
        ]
    for path in old:
        with contextlib.suppress(OSError):
            tree.remove(path)
