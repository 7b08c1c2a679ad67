"""Content by its digest: manifests, configs and compressed layers, each there whole and verified or not at all.

    <data>/blobs/sha256/<hex>    a blob
    <data>/ingest/<hex>          one that arrives, see ``ingest``

Reading needs no lock. What is added is named by a lease first, and stays at least as long as that is held.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from concurrent import futures

from devenv import errors
from devenv.image import content, descriptor, ingest, lease, source
from devenv.util import fs, paths

VERIFY_CHUNK = 256 << 10


class BlobStore:
    def __init__(self, where: paths.Paths) -> None:
        self.folder = f"{where.data}/blobs/sha256"
        self._ingest = f"{where.data}/ingest"

    def path(self, wanted: descriptor.Descriptor) -> str:
        return f"{self.folder}/{wanted.hex}"

    def has(self, wanted: descriptor.Descriptor) -> bool:
        try:
            status = os.lstat(self.path(wanted))
        except FileNotFoundError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == wanted.size

    def size(self, name: str) -> int:
        """Of the blob with this hexadecimal name; 0 if it isn't here."""
        try:
            return os.stat(f"{self.folder}/{name}").st_size
        except FileNotFoundError:
            return 0

    def source(self, wanted: descriptor.Descriptor) -> source.Source:
        return source.File(self.path(wanted))

    def read(self, wanted: descriptor.Descriptor, *, what: str) -> bytes:
        """A manifest or config, verified again: a disk may lie. Raises ``ImageError``."""
        data = content.read_file(self.path(wanted), what=what)
        check(data, wanted, what=what)
        return data

    def put(self, wanted: descriptor.Descriptor, data: bytes, *, held: lease.Lease, what: str) -> None:
        """A manifest or config that is in memory."""
        check(data, wanted, what=what)
        held.add(wanted.digest)
        if not self.has(wanted):
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            fs.write_whole(self.path(wanted), data, durable=True)

    def adopt(self, wanted: descriptor.Descriptor, path: str, *, held: lease.Lease) -> None:
        """A file on our filesystem that was hashed while it was written; it is gone from where it was. Not synced."""
        held.add(wanted.digest)
        if self.has(wanted):
            os.unlink(path)
            return
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        os.rename(path, self.path(wanted))

    def verify(self) -> list[str]:
        """Read every blob; the digests of those whose content is another. They are taken away: pulling or loading the
        image again brings them back."""
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []
        names = [name for name in names if len(name) == 64]
        with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            results = zip(names, pool.map(self._hash, names), strict=True)
            broken = [name for name, found in results if found != name]
        for name in broken:
            fs.remove(f"{self.folder}/{name}")
        return [f"sha256:{name}" for name in broken]

    def _hash(self, name: str) -> str:
        found = hashlib.sha256()
        buffer = memoryview(bytearray(VERIFY_CHUNK))
        try:
            fd = os.open(f"{self.folder}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return ""
        with open(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return ""
            while size := file.readinto(buffer):
                found.update(buffer[:size])
        return found.hexdigest()

    def ingest(
        self,
        wanted: descriptor.Descriptor,
        *,
        held: lease.Lease,
        what: str,
        waiting: Callable[[], None] | None = None,
    ) -> ingest.Ingest:
        """``what`` names the image in errors; ``waiting`` is called when another process has it and we wait."""
        held.add(wanted.digest)
        for folder in (self.folder, self._ingest):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        partial = f"{self._ingest}/{wanted.hex}"
        return ingest.Ingest(wanted, partial=partial, path=self.path(wanted), what=what, waiting=waiting)


def check(data: bytes, wanted: descriptor.Descriptor, *, what: str) -> None:
    if len(data) != wanted.size:
        raise errors.ImageError(f"{what}: {wanted.digest} has {len(data)} bytes, its descriptor says {wanted.size}")
    got = hashlib.sha256(data).hexdigest()
    if got != wanted.hex:
        raise errors.ImageError(f"{what}: the content of {wanted.digest} has the digest sha256:{got}")
