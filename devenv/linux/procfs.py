"""/proc as the kernel's own: a container may have put something else there (CVE-2019-16884, CVE-2019-19921)."""

from __future__ import annotations

import errno
import os

from devenv.linux import statfs


def open_own(name: str, flags: int) -> int:
    """A file of the calling thread's. Raises ``OSError`` if what is at /proc isn't procfs."""
    descriptor = os.open(f"/proc/thread-self/{name}", flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if statfs.f_type(descriptor) != statfs.PROC_SUPER_MAGIC:
            raise OSError(errno.EXDEV, "it is not the kernel's", "/proc")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
