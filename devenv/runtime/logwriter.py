"""What containers print, kept on disk: ``logs/container.log`` in the CRI form, rotated, and no byte lost or doubled.

    2026-11-24T02:12:20.123456789Z stdout F a whole line
    2026-11-24T02:12:20.123456789Z stderr P the first 16 KiB of a long line, or what came without its line's end

A pipe forgets what is read from it, so a writer that is killed between its read and its write would lose output.
Therefore each batch goes through a journal, a small file beside the pipes:

    1. pwrite   the header: which stream, the time, where the log ends now
    2. splice   pipe -> journal: one system call takes the bytes out of the pipe and puts them into a file
    3. pwrite   the records that these bytes make, at the end of the log
    4. truncate the journal to its header

Killed after any of them, the next writer finds the bytes in the pipe or in the journal. In the second case it cuts
the log back to where the header says and writes the same records again: they follow from the header and the bytes.
A batch that does not fit in one log file is written in parts, the header renewed before each; that the log has
another inode than the header names then tells that the part was whole and the file rotated.

A full disk costs records, never the container: what could not be written is counted and told in a record of its own
once there is space. Reading is in ``devenv.runtime.logs``.
"""

from __future__ import annotations

import errno
import os
import struct
import time

RECORD_LIMIT = 16 * 1024  # payload bytes a record, as in docker and the CRI
BATCH = 64 * 1024  # a pipe's default capacity; larger ones leave the cache and are slower
DEFAULT_MAX_SIZE = 10 * 1024 * 1024
DEFAULT_MAX_FILES = 3
# stream, time in ns, first and last byte of the part among all records of the batch, the log's inode and its size
_HEADER = struct.Struct("<8sqqqQQ")
# What may keep bytes from the journal that can be read from the pipe all the same.
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.EINVAL, errno.ENOMEM})
_WHOLE = -1  # the part is the whole batch
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}


class Limits:
    """How much of a container's output is kept: with ``keep`` False nothing. ``forwarded``: somebody gets a copy."""

    __slots__ = ("forwarded", "keep", "max_files", "max_size")

    def __init__(
        self,
        *,
        max_size: int = DEFAULT_MAX_SIZE,
        max_files: int = DEFAULT_MAX_FILES,
        keep: bool = True,
        forwarded: bool = False,
    ) -> None:
        self.max_size = max_size
        self.max_files = max(1, max_files)
        self.keep = keep
        self.forwarded = forwarded

    @classmethod
    def from_logging(cls, logging: object) -> Limits:
        """From container.json's ``logging``: options flat or under ``options``. What can't be read is the default."""
        if not isinstance(logging, dict):
            return cls()
        nested = logging.get("options")
        options = {**logging, **nested} if isinstance(nested, dict) else logging
        size = parse_size(options.get("max-size"))
        try:
            files = int(options.get("max-file") or DEFAULT_MAX_FILES)
        except (TypeError, ValueError):
            files = DEFAULT_MAX_FILES
        driver = options.get("driver")
        return cls(
            max_size=size or DEFAULT_MAX_SIZE,
            max_files=files,
            keep=driver != "none",
            forwarded=driver not in {None, "none"},
        )


def parse_size(text: object) -> int | None:
    """``10m`` -> 10485760. None for what is no size, and for ``-1``, which docker takes as "without limit"."""
    word = str(text if text is not None else "").strip().lower()
    digits = word.rstrip("bkmg")
    try:
        value = float(digits) * _UNITS[word[len(digits) :]]
    except (ValueError, KeyError):
        return None
    return int(value) if 1 <= value < 1 << 62 else None


class _Clock:
    """RFC 3339 with nine digits: all stamps have one width, so that they sort as text."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def stamp(self, now: int) -> bytes:
        second, nanoseconds = divmod(now, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{nanoseconds:09d}Z".encode()


def _has_long_line(data: bytes) -> bool:
    """Whether more than RECORD_LIMIT bytes stand between two line ends. One search for 16 KiB of data, not per line."""
    position, end = 0, len(data)
    while end - position > RECORD_LIMIT:
        newline = data.rfind(b"\n", position, position + RECORD_LIMIT + 1)
        if newline < 0:
            return True
        position = newline + 1
    return False


def _split(line: bytes, *, full: bytes, part: bytes, ended: bool) -> bytes:
    pieces = [line[at : at + RECORD_LIMIT] for at in range(0, len(line), RECORD_LIMIT)] or [b""]
    heads = [part] * (len(pieces) - 1) + [full if ended else part]
    return b"".join(head + piece + b"\n" for head, piece in zip(heads, pieces, strict=True))


def records(stamp: bytes, stream: bytes, data: bytes) -> bytes:
    """The log's form of ``data``: F for what ends a line, P for what doesn't.

    It depends on its arguments alone, which is what the journal needs.
    """
    full, part = stamp + b" " + stream + b" F ", stamp + b" " + stream + b" P "
    body, newline, rest = data.rpartition(b"\n")
    if len(data) > RECORD_LIMIT and _has_long_line(data):
        text = b""
        if newline:
            text = b"".join([_split(line, full=full, part=part, ended=True) for line in body.split(b"\n")])
        return text + (_split(rest, full=full, part=part, ended=False) if rest else b"")
    # One pass in C over the whole batch, where a loop over its lines would cost a microsecond each.
    text = full + body.replace(b"\n", b"\n" + full) + b"\n" if newline else b""
    return text + part + rest + b"\n" if rest else text


class Writer:
    """One container's log. ``pump`` moves what a pipe holds, ``write`` takes bytes that are in memory already."""

    def __init__(self, folder: str, journal: str, limits: Limits) -> None:
        self.path = f"{folder}/container.log"
        self.limits = limits
        self.lost = 0  # bytes that a full disk has cost since the last record
        self._folder = folder
        self._clock = _Clock()
        self._log = -1
        self._inode = 0
        self._size = 0
        self._mid_line: set[bytes] = set()
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._journal = os.open(journal, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if limits.keep:
            try:
                self._open()
            except OSError:
                pass  # tried again with each batch
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for descriptor in (self._log, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = self._journal = -1

    def pump(self, pipe: int, stream: bytes) -> bytes | None:
        """Move one batch. None when the pipe is empty, ``b""`` when nobody can write to it any more."""
        now = time.time_ns()
        try:
            self._note(stream, now, 0, _WHOLE)
            count = os.splice(pipe, self._journal, BATCH, offset_dst=_HEADER.size, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            return None
        except OSError as exc:
            if exc.errno not in _UNWRITABLE:
                raise
            return self._pump_unsafely(pipe, stream)
        if count == 0:
            return b""
        data = os.pread(self._journal, count, _HEADER.size)
        self._append_parts(stream, now, data, 0)
        os.ftruncate(self._journal, _HEADER.size)
        return data

    def write(self, stream: bytes, data: bytes) -> None:
        """For what was read from a terminal, which can't be spliced into a file."""
        now = time.time_ns()
        try:
            self._note(stream, now, 0, _WHOLE)
            os.pwrite(self._journal, data, _HEADER.size)
        except OSError:
            pass  # without the journal a kill may cost this batch; with a full disk nothing better is to be had
        self._append_parts(stream, now, data, 0)
        os.ftruncate(self._journal, _HEADER.size)

    def end_line(self, stream: bytes) -> None:
        """The stream is over: its last, unended line ends here, and is not joined to what a next run prints."""
        if stream in self._mid_line:
            self.write(stream, b"\n")

    def _pump_unsafely(self, pipe: int, stream: bytes) -> bytes | None:
        """The journal's disk is full: the container must go on all the same."""
        try:
            data = os.read(pipe, BATCH)
        except BlockingIOError:
            return None
        if data:
            self._append_parts(stream, time.time_ns(), data, 0)
        return data

    def _note(self, stream: bytes, now: int, start: int, end: int) -> None:
        os.pwrite(self._journal, _HEADER.pack(stream, now, start, end, self._inode, self._size), 0)

    def _append_parts(self, stream: bytes, now: int, data: bytes, start: int) -> None:
        """Write the records of ``data`` from byte ``start`` of them on, rotating where a file is full."""
        if data.endswith(b"\n"):
            self._mid_line.discard(stream)
        else:
            self._mid_line.add(stream)
        if not self.limits.keep:
            return
        try:
            if self._log < 0:
                self._open()
            if self.lost:
                self._tell_gap(stream)
            self._append_all(stream, now, records(self._clock.stamp(now), stream, data), start)
        except OSError:
            self.lost += len(data)

    def _append_all(self, stream: bytes, now: int, text: bytes, start: int) -> None:
        limit = self.limits.max_size
        if start == 0 and self._size + len(text) <= limit:
            self._append(text)
            return
        while start < len(text):
            end = min(len(text), start + max(0, limit - self._size))
            if end < len(text):
                end = text.rfind(b"\n", start, end) + 1
            if end <= start:
                if self._size:
                    self._rotate()
                    continue
                end = text.index(b"\n", start) + 1  # a record larger than a file may be
            self._note(stream, now, start, end)
            self._append(text[start:end])
            start = end

    def _append(self, text: bytes) -> None:
        view, position = memoryview(text), self._size
        try:
            while view:
                count = os.pwrite(self._log, view, position)
                view, position = view[count:], position + count
        except OSError:
            # Half a record would spoil the next one.
            os.ftruncate(self._log, self._size)
            raise
        self._size = position

    def _tell_gap(self, stream: bytes) -> None:
        text = b"[devenv: about %d bytes of output are missing here: the disk was full]\n" % self.lost
        self._append(records(self._clock.stamp(time.time_ns()), stream, text))
        self.lost = 0

    def _open(self) -> None:
        self._log = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        status = os.fstat(self._log)
        self._inode, self._size = status.st_ino, status.st_size

    def _rotate(self) -> None:
        os.close(self._log)
        self._log = -1
        oldest = self.limits.max_files - 1
        if oldest == 0:
            # Not unlink and create: the new file could get the old one's inode, which `_recover` compares.
            fresh = f"{self.path}.new"
            os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            os.rename(fresh, self.path)
        for number in range(oldest, 0, -1):
            newer = f"{self.path}.{number - 1}" if number > 1 else self.path
            try:
                os.rename(newer, f"{self.path}.{number}")
            except FileNotFoundError:
                continue
        self._open()

    def _recover(self) -> None:
        """Bring to its end what a killed writer had begun, and find out which streams stopped within a line."""
        journal = os.pread(self._journal, _HEADER.size + BATCH, 0)
        if len(journal) <= _HEADER.size:
            self._find_open_lines()
            return
        stream, now, start, end, inode, size = _HEADER.unpack_from(journal)
        stream = stream.rstrip(b"\0")
        if self._log >= 0 and inode == self._inode and size <= self._size:
            os.ftruncate(self._log, size)
            self._size = size
        elif end != _WHOLE:
            start = end
        self._find_open_lines()
        if stream in {b"stdout", b"stderr"}:
            self._append_parts(stream, now, journal[_HEADER.size :], start)
        os.ftruncate(self._journal, _HEADER.size)

    def _find_open_lines(self) -> None:
        if self._log < 0:
            return
        tail = os.pread(self._log, 4 * RECORD_LIMIT, max(0, self._size - 4 * RECORD_LIMIT))
        if tail and not tail.endswith(b"\n"):
            # A write that was cut short by a kill, and no journal to say how it goes on (it was on a full disk).
            keep = tail.rfind(b"\n") + 1
            self._size -= len(tail) - keep
            os.ftruncate(self._log, self._size)
            tail = tail[:keep]
        for stream in (b"stdout", b"stderr"):
            if tail.rfind(b"Z %s P " % stream) > tail.rfind(b"Z %s F " % stream):
                self._mid_line.add(stream)
