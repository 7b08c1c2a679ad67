"""A blob on its way into the store: written by one thread or process, read meanwhile by others, believed when whole.

    <data>/ingest/<hex>          what has arrived, kept when the transfer breaks off; locked by whoever writes
    <data>/blobs/sha256/<hex>    the blob: size and digest are right, and it survives a power cut

    with store.ingest(descriptor) as ingest:      waits while another process has it
        if not ingest.complete:
            fetch(descriptor, offset=ingest.offset, into=ingest.write)
            ingest.commit()

An ``Ingest`` is also the ``Source`` of a layer. Its readers follow what is written, may be opened before anything is,
and see the end only after ``commit`` has verified it: unpacking a layer while it downloads needs nothing further. The
file is the buffer between the two, so the slower one never holds up the other.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from types import TracebackType

from devenv import errors
from devenv.image import descriptor as descriptor_module
from devenv.util import fs, lock

CHUNK = 1 << 20


class Mismatch(errors.ImageError):
    """Other content than was promised. Nothing of it was kept, so fetching it from the beginning may do."""


class Ingest:
    """Made by ``BlobStore.ingest``. Use as a context manager, once."""

    def __init__(
        self,
        wanted: descriptor_module.Descriptor,
        *,
        partial: str,
        path: str,
        what: str,
        waiting: Callable[[], None] | None = None,
    ) -> None:
        self.descriptor = wanted
        self.offset = 0  # how many bytes are here
        self.complete = False
        self._partial = partial
        self._path = path
        self._what = what
        self._waiting = waiting
        self._hash = hashlib.sha256()
        self._fd = -1
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    # -- the one who writes -----------------------------------------------------------------------------------

    def __enter__(self) -> Ingest:
        try:
            self._begin()
        except BaseException as exc:
            self.cancel(exc)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.complete:
            self.cancel(value or self._broken("its transfer was broken off"))
        with self._changed:
            held, self._fd = self._fd, -1
        os.close(held)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """The bytes at ``offset``."""
        if self._error is not None:
            raise self._error
        if self.offset + len(data) > self.descriptor.size:
            raise self._mismatch(f"it has more than the {self.descriptor.size} bytes that its descriptor says")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as exc:
            raise self._failed(exc) from exc
        self._hash.update(data)
        with self._changed:
            self.offset += len(data)
            self._changed.notify_all()

    def commit(self) -> None:
        """Raises ``ImageError`` if this is not what the descriptor promised. Content that is wrong is not kept."""
        if self.offset != self.descriptor.size:
            raise self._broken(f"it ends after {self.offset} of {self.descriptor.size} bytes")
        digest = "sha256:" + self._hash.hexdigest()
        if digest != self.descriptor.digest:
            raise self._mismatch(f"what arrived has the digest {digest}")
        try:
            os.fdatasync(self._fd)
            os.rename(self._partial, self._path)
        except OSError as exc:
            raise self._failed(exc) from exc
        with self._changed:
            self.complete = True
            self._changed.notify_all()

    def cancel(self, error: BaseException) -> None:
        """Who reads or writes gets ``error``. Callable from any thread, also when nobody has begun to write."""
        with self._changed:
            if not self.complete and self._error is None:
                self._error = error
                self._changed.notify_all()

    def _begin(self) -> None:
        held = lock.acquire(self._partial, wait=False)
        if held is None:
            if self._waiting is not None:
                self._waiting()
            held = lock.acquire(self._partial, wait=True)
        assert held is not None
        try:
            offset, complete = self._resume(held)
        except BaseException:
            os.close(held)
            raise
        with self._changed:
            self._fd, self.offset, self.complete = held, offset, complete
            self._changed.notify_all()
        if self._error is not None:
            os.close(held)
            raise self._error

    def _resume(self, held: int) -> tuple[int, bool]:
        """What an earlier attempt or another process left."""
        if self._is_there():
            fs.remove(self._partial)
            blob = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(blob, held, inheritable=False)
            os.close(blob)
            return self.descriptor.size, True
        offset = 0
        while data := os.pread(held, CHUNK, offset):
            self._hash.update(data)
            offset += len(data)
        if offset > self.descriptor.size:
            os.ftruncate(held, 0)
            self._hash, offset = hashlib.sha256(), 0
        os.lseek(held, offset, os.SEEK_SET)
        return offset, False

    def _is_there(self) -> bool:
        """What somebody cut off is replaced by what arrives."""
        try:
            status = os.lstat(self._path)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == self.descriptor.size

    def _mismatch(self, text: str) -> Mismatch:
        fs.remove(self._partial)
        error = Mismatch(f"{self._what}: {self.descriptor.digest}: {text}")
        self.cancel(error)
        return error

    def _broken(self, text: str) -> errors.ImageError:
        return errors.ImageError(f"{self._what}: {self.descriptor.digest}: {text}")

    def _failed(self, error: OSError) -> errors.ImageError:
        hint = f"df -h {os.path.dirname(self._path)}" if error.errno in {errno.ENOSPC, errno.EDQUOT} else None
        return errors.ImageError(f"{self._what}: {self.descriptor.digest} can't be kept: {error.strerror}", hint=hint)

    # -- those who read ---------------------------------------------------------------------------------------

    def open(self) -> Follower:
        return Follower(self)

    def wait(self, position: int, interrupted: threading.Event) -> int:
        """How many bytes there are beyond ``position``; 0 at the end. For ``Follower``."""
        with self._changed:
            while not interrupted.is_set():
                if self._error is not None:
                    raise self._error
                if self.complete or self.offset > position:
                    return self.offset - position
                self._changed.wait()
        return 0

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def reopen(self) -> int:
        """A descriptor of its own: sharing the writer's would share the lock, too."""
        with self._changed:
            path = self._path if self._fd < 0 else f"/proc/self/fd/{self._fd}"
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class Follower:
    """A ``Reader`` of what has arrived and what will."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._interrupted = threading.Event()
        self._position = 0
        self._fd = -1

    def read(self, size: int, /) -> bytes:
        there = self._ingest.wait(self._position, self._interrupted)
        if not there:
            return b""
        if self._fd < 0:
            self._fd = self._ingest.reopen()
        data = os.pread(self._fd, min(size, there), self._position)
        self._position += len(data)
        return data

    def interrupt(self) -> None:
        self._interrupted.set()
        self._ingest.wake()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
