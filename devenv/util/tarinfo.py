"""A tar header of a file, from what lstat(2) says of it."""

from __future__ import annotations

import os
import stat
import tarfile

_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def of(path: str, status: os.stat_result) -> tarfile.TarInfo:
    """Times in whole seconds, owners as numbers alone. A socket has no kind in an archive: ``KeyError``."""
    made = tarfile.TarInfo(path)
    made.type = _KINDS[stat.S_IFMT(status.st_mode)]
    made.mode = stat.S_IMODE(status.st_mode)
    made.uid, made.gid = status.st_uid, status.st_gid
    made.mtime = status.st_mtime_ns // 10**9
    made.size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    made.devmajor, made.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return made
