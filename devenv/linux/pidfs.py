"""ioctl(PIDFD_GET_INFO): how a process that is not our child ended, asked of its pidfd (Linux 6.15, pidfd_open(2))."""

from __future__ import annotations

import fcntl
import struct

PIDFD_INFO_EXIT = 1 << 3
# struct pidfd_info as of its first version: mask, cgroupid, pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid,
# fsuid, fsgid, exit_code. The kernel takes the size from the request number, so later fields need not be known.
_INFO = struct.Struct("QQ11Ii")
PIDFD_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11  # _IOWR(0xFF, 11, struct pidfd_info)


def exit_status(pidfd: int) -> int | None:
    """The wait status (as of waitpid(2)) once the process has been reaped, by whomever. None before that.

    Raises ``OSError`` where the kernel doesn't tell: ENOTTY or EINVAL before 6.13, ESRCH in 6.13 and 6.14.
    """
    buffer = bytearray(_INFO.size)
    _INFO.pack_into(buffer, 0, PIDFD_INFO_EXIT, *([0] * 13))
    fcntl.ioctl(pidfd, PIDFD_GET_INFO, buffer)
    fields = _INFO.unpack(buffer)
    return int(fields[13]) if fields[0] & PIDFD_INFO_EXIT else None
