"""What somebody is about to use and nothing else names yet: garbage collection spares it.

    <data>/leases/<random>    hexadecimal names of blobs and layers, one a line; locked while its process lives
    <data>/gc.lock            shared by who adds to a lease, held alone while garbage is found and taken away

The order makes it safe: a name is added first, then its owner looks whether it is there. Either the collector reads the
name, or it was done before, and what it took is seen to be gone. Leases don't expire and can't be left in force: the
lock ends with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from types import TracebackType

from devenv.util import fs, lock, paths

LEFT_BEHIND = 16  # files of processes that ended without a word, before somebody looks for them


class Lease:
    def __init__(self, where: paths.Paths) -> None:
        folder = f"{where.data}/leases"
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if len(os.listdir(folder)) > LEFT_BEHIND:
            living(where)
        self._where = where
        self._path = f"{folder}/{os.urandom(8).hex()}"
        held = lock.acquire(self._path, wait=True)
        assert held is not None
        self._fd = held
        self._names: set[str] = set()
        self._guard = threading.Lock()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def add(self, *names: str) -> None:
        """Digests and chain ids, with their algorithm or without. Look for them afterwards, never before."""
        with self._guard:
            new = {name.removeprefix("sha256:") for name in names} - self._names
            if new:
                with _locked(self._where, fcntl.LOCK_SH):
                    os.write(self._fd, "".join(f"{name}\n" for name in sorted(new)).encode())
                self._names |= new

    def release(self) -> None:
        fs.remove(self._path)
        os.close(self._fd)


def living(where: paths.Paths) -> set[str]:
    """All that is leased. Leases of processes that are gone are removed."""
    found: set[str] = set()
    folder = f"{where.data}/leases"
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            found |= _read(f"{folder}/{name}")
    return found


def exclusive(where: paths.Paths) -> contextlib.AbstractContextManager[None]:
    """For the collector: nothing is added to a lease meanwhile."""
    return _locked(where, fcntl.LOCK_EX)


def _read(path: str) -> set[str]:
    try:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return set(file.read().decode("ascii", "replace").split())
            fs.remove(path)
    except FileNotFoundError:
        pass
    return set()


@contextlib.contextmanager
def _locked(where: paths.Paths, how: int) -> Iterator[None]:
    fd = os.open(f"{where.data}/gc.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)
