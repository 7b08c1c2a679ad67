"""ioctl_ficlone(2): a file that shares its blocks with another until either is written to."""

from __future__ import annotations

import fcntl

_FICLONE = 0x40049409


def clone(source: int, target: int) -> None:
    """Raises ``OSError``: EOPNOTSUPP where the filesystem can't, EXDEV across two."""
    fcntl.ioctl(target, _FICLONE, source)
