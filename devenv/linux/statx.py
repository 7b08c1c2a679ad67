"""statx(2), for what os.stat does not tell."""

from __future__ import annotations

import ctypes

from devenv.linux.libc import SYS_statx, check, libc

AT_EMPTY_PATH = 0x1000
STATX_BTIME = 0x800
# Of struct statx: stx_mask, and the seconds and nanoseconds of stx_btime; the whole is 256 bytes on every processor.
_MASK, _SECONDS, _NANOSECONDS, _SIZE = 0, 80, 88, 256


def birth(descriptor: int) -> int | None:
    """When the file was made, in nanoseconds since the epoch; None where the filesystem does not keep it."""
    buffer = ctypes.create_string_buffer(_SIZE)
    check(libc.syscall(SYS_statx, descriptor, b"", AT_EMPTY_PATH, STATX_BTIME, buffer), "statx")
    if not ctypes.c_uint32.from_buffer(buffer, _MASK).value & STATX_BTIME:
        return None
    seconds = ctypes.c_int64.from_buffer(buffer, _SECONDS).value
    return seconds * 10**9 + ctypes.c_uint32.from_buffer(buffer, _NANOSECONDS).value
