"""Project quotas: quotactl_fd(2) (Linux 5.14), and the ioctls that say which project a file belongs to.

The generic commands, which the kernel answers for xfs as well as for ext4 (fs/quota/quota.c).
"""

from __future__ import annotations

import ctypes
import fcntl

from devenv.linux.libc import SYS_quotactl_fd, check, libc

FS_XFLAG_PROJINHERIT = 0x200
_FS_IOC_FSGETXATTR = 0x801C581F
_FS_IOC_FSSETXATTR = 0x401C5820

_PRJQUOTA = 2
_Q_GETQUOTA = 0x800007
_Q_SETQUOTA = 0x800008
_Q_XGETQSTAT = 0x5805
_QIF_BLIMITS = 1
_QIF_DQBLKSIZE = 1024
_FS_QUOTA_PDQ_ACCT = 1 << 4
_FS_QUOTA_PDQ_ENFD = 1 << 5


class fsxattr(ctypes.Structure):
    _fields_ = (
        ("fsx_xflags", ctypes.c_uint32),
        ("fsx_extsize", ctypes.c_uint32),
        ("fsx_nextents", ctypes.c_uint32),
        ("fsx_projid", ctypes.c_uint32),
        ("fsx_cowextsize", ctypes.c_uint32),
        ("fsx_pad", ctypes.c_ubyte * 8),
    )


class if_dqblk(ctypes.Structure):
    _fields_ = (
        ("dqb_bhardlimit", ctypes.c_uint64),
        ("dqb_bsoftlimit", ctypes.c_uint64),
        ("dqb_curspace", ctypes.c_uint64),
        ("dqb_ihardlimit", ctypes.c_uint64),
        ("dqb_isoftlimit", ctypes.c_uint64),
        ("dqb_curinodes", ctypes.c_uint64),
        ("dqb_btime", ctypes.c_uint64),
        ("dqb_itime", ctypes.c_uint64),
        ("dqb_valid", ctypes.c_uint32),
    )


def project(descriptor: int) -> int:
    """Of a file or folder. Raises ``OSError`` where the filesystem knows none: ENOTTY or EOPNOTSUPP."""
    return int(_attributes(descriptor).fsx_projid)


def set_project(descriptor: int, number: int, *, inherited: bool) -> None:
    """``inherited``: of a folder, what is made in it from now on belongs to the same project."""
    found = _attributes(descriptor)
    found.fsx_projid = number
    if inherited:
        found.fsx_xflags |= FS_XFLAG_PROJINHERIT
    fcntl.ioctl(descriptor, _FS_IOC_FSSETXATTR, bytes(found))


def _attributes(descriptor: int) -> fsxattr:
    buffer = bytearray(ctypes.sizeof(fsxattr))
    fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, buffer)
    return fsxattr.from_buffer(buffer)


def enforced(descriptor: int) -> bool:
    """Whether the filesystem that ``descriptor`` is on counts and limits what projects take."""
    # struct fs_quota_stat, whose second field is the flags, 16 bits; the whole has 80 bytes.
    buffer = (ctypes.c_uint16 * 64)()
    try:
        _quotactl(descriptor, _Q_XGETQSTAT, 0, buffer)
    except OSError:
        return False
    return bool(buffer[1] & _FS_QUOTA_PDQ_ACCT and buffer[1] & _FS_QUOTA_PDQ_ENFD)


def is_used(descriptor: int, number: int) -> bool:
    """Whether the project has a limit or files."""
    found = if_dqblk()
    try:
        _quotactl(descriptor, _Q_GETQUOTA, number, found)
    except FileNotFoundError:
        return False  # xfs
    return any(
        getattr(found, f"dqb_{name}")
        for name in ("bhardlimit", "bsoftlimit", "curspace", "ihardlimit", "isoftlimit", "curinodes")
    )


def set_limit(descriptor: int, number: int, size: int) -> None:
    """In bytes; 0 for none."""
    blocks = -(-size // _QIF_DQBLKSIZE)
    wanted = if_dqblk(dqb_bhardlimit=blocks, dqb_bsoftlimit=blocks, dqb_valid=_QIF_BLIMITS)
    _quotactl(descriptor, _Q_SETQUOTA, number, wanted)


def _quotactl(
    descriptor: int, command: int, number: int, argument: ctypes.Structure | ctypes.Array[ctypes.c_uint16]
) -> None:
    # QCMD in <linux/quota.h>: the command, and the kind of quota in the lowest byte.
    check(
        libc.syscall(
            ctypes.c_long(SYS_quotactl_fd),
            ctypes.c_uint(descriptor),
            ctypes.c_uint(command << 8 | _PRJQUOTA),
            ctypes.c_uint32(number),
            ctypes.byref(argument),
        )
    )
