"""A container's writable layer as a layer of an image: overlayfs's whiteouts and opaque folders become the OCI's.

character device 0/0               .wh.<name>
*.overlay.opaque = y               .wh..wh..opq in the folder
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from typing import Any

from devenv import errors
from devenv.image import difference
from devenv.util import tarinfo

CHUNK = 1 << 20
# What devenv mounts over in every container: the files that stand there are nobody's work.
_PLACES = frozenset({b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"})
_MOUNTED = frozenset({b"proc", b"sys", b"dev"})


def chunks(upper: str, *, opaque: str, mounted: frozenset[str]) -> Iterator[bytes]:
    """A tar stream. ``mounted``: where volumes and binds are, whose empty places are left out, with those of a
    container's own mounts."""
    places = {os.fsencode(path.strip("/")) for path in mounted}
    yield from _Packer(opaque, _PLACES | places, _MOUNTED).stream(upper)


class Counted:
    """The stream of a folder that holds nothing but what is meant; afterwards one knows what it was."""

    def __init__(self, upper: str, *, opaque: str) -> None:
        self._packer = _Packer(opaque, frozenset(), frozenset())
        self._upper = upper

    def chunks(self) -> Iterator[bytes]:
        return self._packer.stream(self._upper)

    @property
    def entries(self) -> int:
        return self._packer.entries

    @property
    def size(self) -> int:
        """In bytes, of the files."""
        return self._packer.size


class _Packer:
    def __init__(self, opaque: str, places: frozenset[bytes] | set[bytes], mounted: frozenset[bytes]) -> None:
        self._opaque = opaque
        self._places = places
        self._mounted = mounted
        self._links: dict[tuple[int, int], bytes] = {}
        self.entries = 0
        self.size = 0

    def stream(self, upper: str) -> Iterator[bytes]:
        yield from self._folder(os.fsencode(upper), b"")
        yield b"\0" * (2 * tarfile.BLOCKSIZE)

    def _folder(self, folder: bytes, prefix: bytes) -> Iterator[bytes]:
        if prefix and difference.is_opaque(folder, self._opaque):
            self.entries += 1
            yield _header(tarfile.TarInfo(os.fsdecode(prefix + b"/.wh..wh..opq")))
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = prefix + b"/" + entry.name if prefix else entry.name
            status = entry.stat(follow_symlinks=False)
            if difference.is_whiteout(status):
                made = tarfile.TarInfo(os.fsdecode(os.path.join(prefix, b".wh." + entry.name)))
                self.entries += 1
                yield _header(made)
            elif stat.S_ISSOCK(status.st_mode) or self._is_place(entry.path, path, status):
                continue
            else:
                yield from self._entry(entry.path, path, status)

    def _is_place(self, place: bytes, path: bytes, status: os.stat_result) -> bool:
        """An empty file or folder that was made to mount something on."""
        if path in self._places:
            return status.st_size == 0 if stat.S_ISREG(status.st_mode) else not os.listdir(place)
        return path in self._mounted and stat.S_ISDIR(status.st_mode) and not os.listdir(place)

    def _entry(self, place: bytes, path: bytes, status: os.stat_result) -> Iterator[bytes]:
        made = tarinfo.of(os.fsdecode(path), status)
        self.entries += 1
        key = (status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and key in self._links:
            made.type, made.linkname, made.size = tarfile.LNKTYPE, os.fsdecode(self._links[key]), 0
            yield _header(made)
            return
        if stat.S_ISLNK(status.st_mode):
            made.linkname = os.fsdecode(os.readlink(place))
        else:
            made.pax_headers = self._attributes(place)
        yield _header(made)
        if stat.S_ISREG(status.st_mode):
            self._links[key] = path
            self.size += status.st_size
            yield from _content(place, status.st_size)
        elif stat.S_ISDIR(status.st_mode):
            yield from self._folder(place, path)

    def _attributes(self, place: bytes) -> dict[str, str]:
        found = {}
        for name in os.listxattr(place, follow_symlinks=False):
            if name.endswith(".overlay.redirect") and name.startswith(("trusted.", "user.")):
                raise errors.ImageError(
                    f"`{os.fsdecode(place)}` was renamed in a way that a layer can't say",
                    hint="mount overlayfs without redirect_dir: modprobe overlay redirect_dir=off",
                )
            if name == "security.capability" or (name.startswith("user.") and ".overlay." not in name):
                value = os.getxattr(place, name, follow_symlinks=False)
                found[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        return found


def _header(made: tarfile.TarInfo) -> bytes:
    # What tarfile writes for most files, in a fifth of the time.
    if _is_simple(made):
        return _simple(made)
    return made.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _is_simple(made: tarfile.TarInfo) -> bool:
    return (
        made.name.isascii()
        and made.linkname.isascii()
        and len(made.name) < tarfile.LENGTH_NAME
        and len(made.linkname) < tarfile.LENGTH_LINK
        and not made.pax_headers
        and 0 <= made.uid < 8**7
        and 0 <= made.gid < 8**7
        and made.size < 8**11
        and 0 <= made.mtime < 8**11
        and made.type not in (tarfile.CHRTYPE, tarfile.BLKTYPE)
    )


def _simple(made: tarfile.TarInfo) -> bytes:
    name = f"{made.name}/" if made.type == tarfile.DIRTYPE else made.name
    numbers = (made.mode & 0o7777, made.uid, made.gid, made.size, int(made.mtime))
    head = name.encode().ljust(tarfile.LENGTH_NAME, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % numbers
    tail = made.type + made.linkname.encode().ljust(tarfile.LENGTH_LINK, b"\0") + b"ustar\x0000"
    # The checksum counts itself as eight spaces.
    checksum = b"%06o\0 " % (sum(head) + sum(tail) + 8 * 0x20)
    return (head + checksum + tail).ljust(tarfile.BLOCKSIZE, b"\0")


def _content(place: bytes, size: int) -> Iterator[bytes]:
    """``size`` bytes, whatever becomes of the file meanwhile."""
    left = size
    with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        while left and (data := file.read(min(left, CHUNK))):
            left -= len(data)
            yield data
    while left:
        part = min(left, CHUNK)
        left -= part
        yield b"\0" * part
    yield b"\0" * (-size % tarfile.BLOCKSIZE)


def mounted(mounts: Any) -> frozenset[str]:
    return frozenset(str(each.get("target") or "") for each in mounts)
