"""The bytes of one file into another, by the cheapest way there is: shared blocks, within the kernel, or by hand."""

from __future__ import annotations

import errno
import os

_SMALL = 128 << 10  # below, one read and one write are the fewest calls
_BLOCK = 1 << 20
# Another filesystem, one that can't, or something in the way: copy_file_range(2).
_CANT = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EIO, errno.ETXTBSY})


def copy(source: int, target: int, status: os.stat_result) -> int:
    """All of ``source``, whose ``status`` was just asked; holes stay holes. Returns the size. Raises ``OSError``."""
    size = status.st_size
    if status.st_blocks * 512 < size and size > _SMALL:
        return _sparse(source, target, size)
    if size < _SMALL:
        return _at_once(source, target) if size else _by_hand(source, target)
    return _range(source, target, 0, None)


def _sparse(source: int, target: int, size: int) -> int:
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # nothing but a hole is left
                break
            raise
        position = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        _range(source, target, start, position - start)
    os.ftruncate(target, size)
    return size


def _range(source: int, target: int, start: int, count: int | None) -> int:
    """From the current positions, which both are at ``start``; None: to the end."""
    done = 0
    while count is None or done < count:
        wanted = 1 << 30 if count is None else count - done
        try:
            copied = os.copy_file_range(source, target, wanted)
        except OSError as exc:
            if exc.errno not in _CANT:
                raise
            return done + _sendfile(source, target, None if count is None else count - done)
        if copied == 0:
            # The end; or a file of /proc, which has no size and gives nothing this way.
            return done if done or start else _by_hand(source, target)
        done += copied
    return done


def _sendfile(source: int, target: int, count: int | None) -> int:
    done = 0
    while count is None or done < count:
        try:
            copied = os.sendfile(target, source, None, 1 << 30 if count is None else count - done)
        except OSError as exc:
            if exc.errno not in _CANT:
                raise
            return done + _by_hand(source, target, None if count is None else count - done)
        if copied == 0:
            break
        done += copied
    return done


def _at_once(source: int, target: int) -> int:
    """A file that says its size: it is over where less comes than was asked for."""
    data = os.read(source, _SMALL)
    done = os.write(target, data)
    if len(data) < _SMALL and done == len(data):
        return done
    os.lseek(source, done, os.SEEK_SET)
    return done + _by_hand(source, target)


def _by_hand(source: int, target: int, count: int | None = None) -> int:
    done = 0
    while count is None or done < count:
        data = os.read(source, _SMALL if count is None else min(_BLOCK, count - done))
        if not data:
            break
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        done += len(data)
    return done
