"""A lock is a file and lives exactly as long as the process that holds it: flock(2)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Wait for the lock, and have it for as long as the block lasts."""
    descriptor = acquire(path, wait=True)
    assert descriptor is not None
    try:
        yield
    finally:
        os.close(descriptor)


def acquire(path: str, *, wait: bool) -> int | None:
    """A descriptor that holds the lock until it is closed, or None when ``wait`` is false and someone holds it.

    The descriptor is close-on-exec. A forked child shares the lock and has to close its copy.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held, there = os.fstat(descriptor), os.stat(path)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            # Removed while we waited: what we hold is nobody's lock any more.
            os.close(descriptor)
            continue
        except BaseException:
            os.close(descriptor)
            raise
        if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino):
            return descriptor
        os.close(descriptor)
