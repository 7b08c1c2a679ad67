"""Reading tar streams: ustar, GNU long names, PAX with extended attributes; no entry is believed beyond its bytes.

``tarfile`` of the standard library loses extended attributes and a link's time, and takes seconds where this takes
tenths of one. What is left out: sparse files and multi-volume archives are refused, and global PAX headers are
skipped, as Docker skips them. Numbers that make no sense, bad checksums and truncation are errors.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
PATH_LIMIT = 4095  # PATH_MAX without its NUL
HEADER_LIMIT = 1 << 20  # of a PAX header or a GNU long name: its sender chooses the size, the reader pays for it
ID_LIMIT = 2**32 - 2  # chown(2) takes 2**32 - 1 for "leave it"

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_XATTR = b"SCHILY.xattr."
_KINDS = frozenset({FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO, b"\0", b"7"})  # 7 is for a file on tape
_REFUSED = {b"S": "a sparse file", b"M": "a part of a multi-volume archive", b"D": "an incremental dump's folder"}


class TarError(ValueError):
    """The stream is no tar archive, or one that nobody means well with."""


class Entry(NamedTuple):
    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    major: int
    minor: int
    xattrs: dict[bytes, bytes]


class Source:
    """Chunks of any size, read in pieces of the size that is wanted."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0  # what comes before is read

    def read(self, size: int) -> bytes:
        """``size`` bytes, or fewer at the end."""
        end = self._at + size
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        parts: list[bytes] = []
        while size and self._more():
            part = self._chunk[self._at : self._at + size]
            parts.append(part)
            size -= len(part)
            self._at += len(part)
        return b"".join(parts)

    def pass_on(self, size: int, write: Callable[[memoryview], int]) -> None:
        while size:
            if not self._more():
                raise TarError("it ends in the middle of a file")
            done = write(memoryview(self._chunk)[self._at : self._at + size])
            self._at += done
            size -= done

    def skip(self, size: int) -> None:
        if self._at + size <= len(self._chunk):
            self._at += size
        else:
            self.pass_on(size, len)

    def rest(self) -> Iterator[memoryview]:
        while self._more():
            yield memoryview(self._chunk)[self._at :]
            self._at = len(self._chunk)

    def _more(self) -> bool:
        while self._at == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._chunk, self._at = chunk, 0
        return True


class FileSource:
    """The same of a regular file that need not be read to be skipped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = os.fstat(fd).st_size
        self.position = 0

    def read(self, size: int) -> bytes:
        data = os.pread(self._fd, size, self.position)
        self.position += len(data)
        return data

    def pass_on(self, size: int, write: Callable[[memoryview], int]) -> None:
        while size:
            view = memoryview(os.pread(self._fd, min(size, 1 << 18), self.position))
            if not view:
                raise TarError("it ends in the middle of a file")
            done = write(view)
            self.position += done
            size -= done

    def skip(self, size: int) -> None:
        if self.position + size > self._end:
            raise TarError("it ends in the middle of a file")
        self.position += size

    def rest(self) -> Iterator[memoryview]:
        while data := self.read(1 << 18):
            yield memoryview(data)


class Reader:
    """Iterate, and call ``copy`` before the next entry to get the content of the current one."""

    def __init__(self, source: Source | FileSource) -> None:
        self._source = source
        self._left = 0  # content of the current entry not read yet
        self._padding = 0
        self._headers = _Headers()

    def __iter__(self) -> Iterator[Entry]:
        while True:
            entry = self._next()
            if entry is None:
                return
            yield entry

    def copy(self, write: Callable[[memoryview], int]) -> None:
        size, self._left = self._left, 0
        self._source.pass_on(size, write)

    def _next(self) -> Entry | None:
        pax: dict[bytes, bytes] = {}
        long_name = long_link = None
        extended = False
        while True:
            if skipped := self._left + self._padding:
                self._source.skip(skipped)
                self._left = self._padding = 0
            header = self._source.read(BLOCK)
            if len(header) < BLOCK:
                if header or extended:
                    raise TarError("it ends in the middle of a header")
                return None
            if not header[0] and header.count(0) == BLOCK:
                if extended:
                    raise TarError("it ends after an extended header")
                self._end()
                return None
            self._headers.check(header)
            kind = header[156:157]
            if kind in b"xgLK":
                size = _number(header[124:136], "size")
                if size > HEADER_LIMIT:
                    raise TarError(f"an extended header of {size} bytes")
                data = self._source.read(size)
                if len(data) < size:
                    raise TarError("it ends in the middle of an extended header")
                self._source.skip(-size % BLOCK)
                if kind == b"x":
                    pax.update(_records(data))
                elif kind == b"L":
                    long_name = data.partition(b"\0")[0]
                elif kind == b"K":
                    long_link = data.partition(b"\0")[0]
                extended = extended or kind != b"g"
                continue
            if kind == b"V":  # the archive's label
                extended = False
                continue
            entry = self._headers.entry(header, kind, pax, long_name, long_link)
            self._left = entry.size
            self._padding = -entry.size % BLOCK
            return entry

    def _end(self) -> None:
        """After the first block of zeros only zeros may follow: two readers shall not see two archives."""
        for view in self._source.rest():
            if bytes(view).count(0) != len(view):
                raise TarError("there is data behind its end")


class _Headers:
    """Reads headers. Most of one is as in the one before it, and is not read again: its kind and all that follows, its
    owner with the mode, its time."""

    def __init__(self) -> None:
        self._tail = b""  # from the kind on
        self._tail_sum = 0
        self._link = self._prefix = b""
        self._owner_fields = self._time_field = b""
        self._owner = (0, 0, 0)
        self._time = 0

    def check(self, header: bytes) -> None:
        """Its checksum. To be called before ``entry``."""
        tail = header[156:]
        if tail != self._tail:
            self._tail = tail
            self._tail_sum = _sum(tail[:178]) + _sum(tail[178:]) + 8 * 0x20
            self._link = tail[1:101].partition(b"\0")[0]
            self._prefix = tail[189:344].partition(b"\0")[0] if tail[101:107] == b"ustar\0" else b""
        total = _sum(header[:148]) + self._tail_sum
        field = header[148:156]
        if field != b"%06o\0 " % total and _number(field, "checksum") != total:
            raise TarError("a header has a wrong checksum")

    def entry(
        self, header: bytes, kind: bytes, pax: dict[bytes, bytes], long_name: bytes | None, long_link: bytes | None
    ) -> Entry:
        if kind not in _KINDS:
            raise TarError(_REFUSED.get(kind) or f"an entry of the unknown type {kind!r}")
        name = header[:100].partition(b"\0")[0]
        if self._prefix:
            name = self._prefix + b"/" + name
        link = self._link
        if long_name or long_link or pax:
            name = _path(pax.get(b"path") or long_name or name)
            link = _path(pax.get(b"linkpath") or long_link or link)
        if kind in {b"\0", b"7"}:
            kind = FILE
        size = 0
        if kind == FILE:  # whatever the header says, nothing follows the others
            size = _pax_number(pax, b"size", header[124:136])
            if not 0 <= size < 2**63:
                raise TarError(f"the size {size} is out of range")
            if name.endswith(b"/"):  # how the first tar wrote folders
                kind = FOLDER
                if size:
                    raise TarError("a folder with content")
        mode, uid, gid = self._mode_and_owner(header[100:124], pax)
        return Entry(
            name,
            kind,
            mode,
            uid,
            gid,
            size,
            self._mtime(header[136:148], pax),
            link,
            _device(header, 329) if kind in b"34" else 0,
            _device(header, 337) if kind in b"34" else 0,
            {key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)} if pax else {},
        )

    def _mode_and_owner(self, fields: bytes, pax: dict[bytes, bytes]) -> tuple[int, int, int]:
        if pax:
            return _mode_and_owner(fields, pax)
        if fields != self._owner_fields:
            self._owner = _mode_and_owner(fields, pax)
            self._owner_fields = fields
        return self._owner

    def _mtime(self, field: bytes, pax: dict[bytes, bytes]) -> int:
        if pax:
            return _time(pax.get(b"mtime"), field)
        if field != self._time_field:
            self._time = _time(None, field)
            self._time_field = field
        return self._time


def _sum(data: bytes) -> int:
    # The lower half of Adler-32 is one more than the sum of the bytes, as long as that stays below 65521: ten times
    # faster than ``sum``.
    return (zlib.adler32(data) & 0xFFFF) - 1


def _mode_and_owner(fields: bytes, pax: dict[bytes, bytes]) -> tuple[int, int, int]:
    return (
        _number(fields[:8], "mode") & 0o7777,
        _identity(_pax_number(pax, b"uid", fields[8:16]), "user id"),
        _identity(_pax_number(pax, b"gid", fields[16:24]), "group id"),
    )


@functools.lru_cache(4096)
def _number(field: bytes, what: str) -> int:
    if field[0] & 0x80:  # GNU: two's complement, base 256
        if field[0] == 0xFF:
            return int.from_bytes(field, "big", signed=True)
        return int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
    digits = field.strip(b" \0").partition(b"\0")[0].strip()
    if not digits:
        return 0
    if not digits.isdigit():
        raise TarError(f"a malformed {what}")
    try:
        return int(digits, 8)
    except ValueError:
        raise TarError(f"a malformed {what}") from None


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """``length key=value\\n``, where the length counts itself: pax(1)."""
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise TarError("a malformed PAX header")
        end = position + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space or data[end - 1 : end] != b"\n" or not equals or not key or b"\0" in key:
            raise TarError("a malformed PAX header")
        if key.startswith(b"GNU.sparse."):
            raise TarError("a sparse file")
        yield key, value
        position = end


def _path(name: bytes) -> bytes:
    if len(name) > PATH_LIMIT:
        raise TarError(f"a path of {len(name)} bytes")
    if b"\0" in name:
        raise TarError("a path with a NUL byte")
    return name


def _pax_number(pax: dict[bytes, bytes], key: bytes, field: bytes) -> int:
    value = pax.get(key)
    if not value:
        return _number(field, key.decode())
    if not value.isdigit() or len(value) > 20:
        raise TarError(f"a malformed {key.decode()}")
    return int(value)


def _identity(value: int, what: str) -> int:
    if not 0 <= value <= ID_LIMIT:
        raise TarError(f"the {what} {value} is out of range")
    return value


def _time(value: bytes | None, field: bytes) -> int:
    if not value:
        seconds, fraction = _number(field, "mtime"), 0
    else:
        whole, _, digits = value.partition(b".")
        negative = whole.startswith(b"-")
        if not whole.removeprefix(b"-").isdigit() or len(whole) > 20 or (digits and not digits.isdigit()):
            raise TarError("a malformed mtime")
        seconds, fraction = int(whole), int(digits[:9].ljust(9, b"0"))
        fraction = -fraction if negative else fraction
    # What the kernel's filesystems can hold at most; they clamp further themselves.
    return max(-(2**31), min(seconds, 2**34)) * 10**9 + fraction


def _device(header: bytes, offset: int) -> int:
    value = _number(header[offset : offset + 8], "device number")
    if not 0 <= value < 2**20:
        raise TarError(f"the device number {value} is out of range")
    return value
