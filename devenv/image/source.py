"""Where the bytes of a layer come from: a file, a blob of the store, or a download that is still under way."""

from __future__ import annotations

import os
import select
import stat
from typing import NamedTuple, Protocol


class LayerError(ValueError):
    """The bytes are not what was promised. Its text goes on where the layer's name left off."""


class Reader(Protocol):
    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, b"" at the end. May wait. Raises when what was to come won't."""

    def interrupt(self) -> None:
        """From another thread: let a ``read`` that waits return b""."""

    def close(self) -> None: ...


class Source(Protocol):
    def open(self) -> Reader: ...


class FileReader:
    """A regular file from its beginning. Owns ``fd``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self.close()
            raise LayerError("is not a regular file")

    def read(self, size: int, /) -> bytes:
        return os.read(self._fd, size)

    def interrupt(self) -> None:
        """A regular file never makes its reader wait."""

    def close(self) -> None:
        os.close(self._fd)


class PipeReader:
    """What comes through a pipe, or from a terminal or socket: waited for until it comes or is not wanted any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stopped = os.eventfd(0, os.EFD_CLOEXEC)

    def read(self, size: int, /) -> bytes:
        ready, _, _ = select.select([self._fd, self._stopped], [], [])
        return b"" if self._stopped in ready else os.read(self._fd, size)

    def interrupt(self) -> None:
        os.eventfd_write(self._stopped, 1)

    def close(self) -> None:
        os.close(self._stopped)


class Pipe(NamedTuple):
    """An open descriptor that stays the caller's. Can be read once."""

    fd: int

    def open(self) -> PipeReader:
        return PipeReader(self.fd)


class File(NamedTuple):
    path: str

    def open(self) -> FileReader:
        # Nothing but a regular file is read, and none of the others may make us wait for it.
        return FileReader(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))


class SliceReader:
    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._offset = offset
        self._left = size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._left), self._offset)
        self._offset += len(data)
        self._left -= len(data)
        return data

    def interrupt(self) -> None:
        """A regular file never makes its reader wait."""

    def close(self) -> None:
        os.close(self._fd)


class Slice(NamedTuple):
    """A part of a file that is known to be a regular one."""

    path: str
    offset: int
    size: int

    def open(self) -> SliceReader:
        return SliceReader(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC), self.offset, self.size)
