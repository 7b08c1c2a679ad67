"""Reading tar streams: ustar, GNU long names, PAX with extended attributes; no entry is believed beyond its bytes.

``tarfile`` of the standard library loses extended attributes and a link's time, and takes seconds where this takes
tenths of one. What is left out: sparse files and multi-volume archives are refused, and global PAX headers are
skipped, as Docker skips them. Numbers that make no sense, bad checksums and truncation are errors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
PATH_LIMIT = 4095  # PATH_MAX without its NUL
HEADER_LIMIT = 1 << 20  # of a PAX header or a GNU long name: its sender chooses the size, the reader pays for it
ID_LIMIT = 2**32 - 2  # chown(2) takes 2**32 - 1 for "leave it"

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_XATTR = b"SCHILY.xattr."
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
        self._view = memoryview(b"")

    def read(self, size: int) -> bytes:
        """``size`` bytes, or fewer at the end."""
        if len(self._view) >= size:
            data = bytes(self._view[:size])
            self._view = self._view[size:]
            return data
        parts: list[bytes] = []
        while size and self._more():
            part = self._view[:size]
            parts.append(bytes(part))
            size -= len(part)
            self._view = self._view[len(part) :]
        return b"".join(parts)

    def pass_on(self, size: int, write: Callable[[memoryview], int]) -> None:
        while size:
            if not self._more():
                raise TarError("it ends in the middle of a file")
            done = write(self._view[:size])
            self._view = self._view[done:]
            size -= done

    def skip(self, size: int) -> None:
        self.pass_on(size, len)

    def rest(self) -> Iterator[memoryview]:
        while self._more():
            yield self._view
            self._view = memoryview(b"")

    def _more(self) -> bool:
        while not len(self._view):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._view = memoryview(chunk)
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
            self._source.skip(self._left + self._padding)
            self._left = self._padding = 0
            header = self._source.read(BLOCK)
            if len(header) < BLOCK:
                if header or extended:
                    raise TarError("it ends in the middle of a header")
                return None
            if header.count(0) == BLOCK:
                if extended:
                    raise TarError("it ends after an extended header")
                self._end()
                return None
            _check(header)
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
            entry = _entry(header, kind, pax, long_name, long_link)
            self._left = entry.size
            self._padding = -entry.size % BLOCK
            return entry

    def _end(self) -> None:
        """After the first block of zeros only zeros may follow: two readers shall not see two archives."""
        for view in self._source.rest():
            if bytes(view).count(0) != len(view):
                raise TarError("there is data behind its end")


def _check(header: bytes) -> None:
    given = _number(header[148:156], "checksum")
    if sum(header) - sum(header[148:156]) + 8 * 0x20 != given:
        raise TarError("a header has a wrong checksum")


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


def _entry(
    header: bytes, kind: bytes, pax: dict[bytes, bytes], long_name: bytes | None, long_link: bytes | None
) -> Entry:
    if kind in _REFUSED:
        raise TarError(_REFUSED[kind])
    name = header[0:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    link = header[157:257].partition(b"\0")[0]
    name = _path(pax.get(b"path") or long_name or name)
    link = _path(pax.get(b"linkpath") or long_link or link)
    size = _pax_number(pax, b"size", header[124:136])
    if kind in {b"\0", b"7"} or kind not in b"0123456":
        if kind not in {b"\0", b"7"}:
            raise TarError(f"an entry of the unknown type {kind!r}")
        kind = FILE
    if kind == FILE and name.endswith(b"/"):  # how the first tar wrote folders
        kind = FOLDER
    if kind != FILE:  # whatever the header says, nothing follows it
        size = 0
    xattrs = {}
    for key, value in pax.items():
        if key.startswith(_XATTR):
            xattrs[key[len(_XATTR) :]] = value
    return Entry(
        name,
        kind,
        _number(header[100:108], "mode") & 0o7777,
        _identity(_pax_number(pax, b"uid", header[108:116]), "user id"),
        _identity(_pax_number(pax, b"gid", header[116:124]), "group id"),
        _positive(size, "size", 2**63 - 1),
        _time(pax, header),
        link,
        _device(header, kind, 329),
        _device(header, kind, 337),
        xattrs,
    )


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
    return _positive(value, what, ID_LIMIT)


def _positive(value: int, what: str, limit: int) -> int:
    if not 0 <= value <= limit:
        raise TarError(f"the {what} {value} is out of range")
    return value


def _time(pax: dict[bytes, bytes], header: bytes) -> int:
    value = pax.get(b"mtime")
    if not value:
        seconds, fraction = _number(header[136:148], "mtime"), 0
    else:
        whole, _, digits = value.partition(b".")
        negative = whole.startswith(b"-")
        if not whole.removeprefix(b"-").isdigit() or len(whole) > 20 or (digits and not digits.isdigit()):
            raise TarError("a malformed mtime")
        seconds, fraction = int(whole), int(digits[:9].ljust(9, b"0"))
        fraction = -fraction if negative else fraction
    # What the kernel's filesystems can hold at most; they clamp further themselves.
    return max(-(2**31), min(seconds, 2**34)) * 10**9 + fraction


def _device(header: bytes, kind: bytes, offset: int) -> int:
    if kind not in {CHARACTER, BLOCK_DEVICE}:
        return 0
    return _positive(_number(header[offset : offset + 8], "device number"), "device number", 2**20 - 1)
