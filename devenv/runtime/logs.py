"""Reading what containers printed: by time, from the end, and as it comes. It needs no monitor, only the files.

A container's log is ``logs/container.log`` and its older parts ``container.log.1`` … (``devenv.runtime.logwriter``
says what stands in them). Everything here is built on one thing: a ``_Reader`` that has a place in these files and
moves forward, across rotations, as far as there are whole records. History and live output come out of the same
place, so nothing falls between them.

``read`` gives what is there, ``follow`` goes on until the container has stopped, ``merge`` does either for several
containers in the order of time. Who has an event loop uses ``Follower`` with its ``fileno``.
"""

from __future__ import annotations

import calendar
import collections
import heapq
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from devenv.linux import inotify
from devenv.util import fs, identity

_BLOCK = 64 * 1024
# What is read of one log before the others, and whoever waits, have their turn.
_TURN = 256 * 1024
_JOINED_LIMIT = 1024 * 1024  # a line longer than this comes in pieces; 1 GB without a line's end must not fill memory
_WATCHED = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE_SELF
# Where inotify can't be had (ENOSPC: too many watches, EMFILE: too many instances), and as a net below it.
_POLL_SECONDS = 0.25
_STATE_SECONDS = 2.0


class Line(NamedTuple):
    time: str  # RFC 3339 in UTC with nine digits: sorts as text; `epoch` makes a number of it
    stream: str  # stdout or stderr
    data: bytes  # without its line's end
    partial: bool  # the line's end is not here: it goes on in the next Line, or has not come yet


class Reading(NamedTuple):
    since: str | None
    until: str | None
    tail: int | None


def stamp(epoch: float) -> str:
    """The form in which records carry their time."""
    second, fraction = divmod(epoch, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{int(fraction * 1e9):09d}Z"


def epoch(text: str) -> float:
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(f"0.{text[20:-1]}")


def reading(*, since: float | None = None, until: float | None = None, tail: int | None = None) -> Reading:
    return Reading(
        since=None if since is None else stamp(since), until=None if until is None else stamp(until), tail=tail
    )


def read(
    container_dir: str, *, since: float | None = None, until: float | None = None, tail: int | None = None
) -> Iterator[Line]:
    """What the log holds now. ``tail`` counts lines, not records, and of those within the times."""
    reader = _Reader(container_dir, reading(since=since, until=until, tail=tail))
    try:
        yield from reader.history()
    finally:
        reader.close()


def follow(
    container_dir: str,
    *,
    since: float | None = None,
    until: float | None = None,
    tail: int | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Line]:
    """As ``read``, and then what comes, until the container has stopped or ``stop`` says so."""
    for _, line in merge({"": container_dir}, since=since, until=until, tail=tail, live=True, stop=stop):
        yield line


def merge(
    sources: Mapping[str, str],
    *,
    since: float | None = None,
    until: float | None = None,
    tail: int | None = None,
    live: bool = False,
    stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[str, Line]]:
    """Lines of several containers (name -> folder) in the order of time; ``tail`` is for each of them.

    With ``live`` it goes on until all of them have stopped. ``stop`` is asked after each wake-up.
    """
    follower = Follower(since=since, until=until, tail=tail, watch=live)
    try:
        for key, folder in sources.items():
            follower.add(key, folder)
        yield from follower.history()
        while live and not (stop is not None and stop()):
            # Asked before the read: what a container printed before it stopped is in its log by then.
            ended = [key for key in follower.keys() if follower.stopped(key)]  # noqa: SIM118
            yield from follower.read()
            for key in ended:
                yield from follower.discard(key)
            if not follower.keys():
                return
            follower.wait(_STATE_SECONDS)
    finally:
        follower.close()


class Follower:
    """Several logs at once, for whoever has other things to wait for too.

        follower.add(key, folder); for key, line in follower.history(): …
        loop: when follower.fileno() is readable: for key, line in follower.read(): …

    A container may be added or discarded at any time: one that was recreated has a new folder and is a new source.
    However fast a container prints, a call of ``read`` comes to its end and holds no more than a part of it; as long
    as there is more already, ``behind`` says so and ``wait`` doesn't wait.
    """

    def __init__(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        tail: int | None = None,
        watch: bool = True,
    ) -> None:
        self._reading = reading(since=since, until=until, tail=tail)
        self._readers: dict[str, _Reader] = {}
        self._unread: set[str] = set()
        self._watches: dict[str, tuple[int, ...]] = {}
        self._inotify = -1
        if watch:
            try:
                self._inotify = inotify.inotify_init1(inotify.IN_NONBLOCK | inotify.IN_CLOEXEC)
            except OSError:
                pass  # EMFILE: `wait` polls

    def fileno(self) -> int:
        """Readable when there may be something new; -1 where inotify can't be had for all: then ask again by time."""
        return self._inotify if self._watched() else -1

    def keys(self) -> list[str]:
        return list(self._readers)

    @property
    def behind(self) -> bool:
        return any(reader.behind for reader in self._readers.values())

    def add(self, key: str, container_dir: str, *, tail: int | None = None) -> None:
        """``tail`` here goes before the one that holds for all."""
        wanted = self._reading if tail is None else self._reading._replace(tail=tail)
        # Watch first, look then: what is written in between is seen twice by the watch and once by the reader.
        self._watch(key, container_dir)
        self._readers[key] = _Reader(container_dir, wanted)
        self._unread.add(key)

    def discard(self, key: str) -> Iterator[tuple[str, Line]]:
        """Forget a source; gives what its log still holds, also of an unended line."""
        reader = self._readers.get(key)
        if reader is None:
            return
        try:
            for line in reader.remaining():
                yield key, line
        finally:
            self._forget(key)

    def _forget(self, key: str) -> None:
        self._unread.discard(key)
        for watch in self._watches.pop(key, ()):
            try:
                inotify.inotify_rm_watch(self._inotify, watch)
            except OSError:
                pass  # EINVAL: the folder is gone, and its watch with it
        self._readers.pop(key).close()

    def history(self) -> Iterator[tuple[str, Line]]:
        """What the sources added so far hold, merged by time. Memory is bounded: they are read side by side."""
        fresh = [key for key in self._readers if key in self._unread]
        self._unread.clear()
        streams = [self._readers[key].history(flush=self._inotify < 0) for key in fresh]
        yield from heapq.merge(
            *[_named(key, stream) for key, stream in zip(fresh, streams, strict=True)],
            key=lambda item: item[1].time,
        )

    def read(self) -> Iterator[tuple[str, Line]]:
        """What is new, in the order of time within this call. It doesn't wait."""
        if self._inotify >= 0:
            while inotify.read(self._inotify):
                pass
        if self._unread:
            yield from self.history()
        found = [(key, line) for key, reader in self._readers.items() for line in reader.some()]
        found.sort(key=lambda item: item[1].time)
        yield from found

    def wait(self, seconds: float) -> bool:
        """Until something may be new; False after ``seconds``."""
        if self.behind:
            return True
        if not self._watched():
            time.sleep(min(seconds, _POLL_SECONDS))
            return True
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def stopped(self, key: str) -> bool:
        """Whether the container runs no more, by its state.json and, where that says it does, by its process."""
        state = fs.read_json(f"{self._readers[key].container_dir}/state.json")
        if not isinstance(state, dict):
            return not os.path.isdir(self._readers[key].container_dir)
        if state.get("status") not in {"running", "paused"}:
            return state.get("status") == "stopped"
        pid = state.get("pid")
        return not isinstance(pid, int) or identity.process_start_time(pid) != state.get("start_time")

    def close(self) -> None:
        for key in list(self._readers):
            self._forget(key)
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1

    def _watched(self) -> bool:
        return self._inotify >= 0 and len(self._watches) >= len(self._readers)

    def _watch(self, key: str, container_dir: str) -> None:
        if self._inotify < 0:
            return
        try:
            os.makedirs(f"{container_dir}/logs", mode=0o700, exist_ok=True)
            self._watches[key] = tuple(
                inotify.inotify_add_watch(self._inotify, path, _WATCHED)
                for path in (container_dir, f"{container_dir}/logs")
            )
        except OSError:
            pass  # no folder, no right to write it, or no watch left: `wait` polls


class _Reader:
    """A place in one container's log files, moving forward."""

    def __init__(self, container_dir: str, wanted: Reading) -> None:
        self.container_dir = container_dir
        self._path = f"{container_dir}/logs/container.log"
        self._wanted = wanted
        self._descriptor = -1
        self._offset = 0
        self._cut = b""  # the beginning of a record whose end is not there yet
        self._fragments: dict[str, list[Line]] = {}
        self._over = False  # a record after `until` was seen
        self._budget: float = 0  # bytes to be read in this turn
        self.behind = False  # the turn was over before the log was

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def history(self, *, flush: bool = True) -> Iterator[Line]:
        """All there is now, and not what comes meanwhile. With ``flush``, an unended line at the end too."""
        self._budget = _size(self._path)
        tail = self._wanted.tail
        if tail is None:
            self._seek_since()
            yield from self._more()
        else:
            self._seek_tail(tail)
            # The seek is by blocks and gives a few lines too many.
            yield from collections.deque(self._more(), maxlen=tail)
        if flush:
            yield from self.rest()

    def some(self) -> Iterator[Line]:
        """What is new, or the next part of it."""
        self._budget = _TURN
        return self._more()

    def remaining(self) -> Iterator[Line]:
        """What is new now, and the unended line after it."""
        self._budget = _size(self._path)
        yield from self._more()
        yield from self.rest()

    def rest(self) -> list[Line]:
        """The unended lines; they are not given again."""
        lines = [self._join(parts, partial=True) for parts in self._fragments.values() if parts]
        self._fragments.clear()
        return sorted(lines)

    def _more(self) -> Iterator[Line]:
        """From here on, as far as there are whole records and bytes left to be read in this turn."""
        self.behind = False
        while not self._over:
            if self._descriptor < 0 and not self._open_next(None):
                return
            # First look which file is newest, then read to the end: a file that has been renamed grows no more.
            current = self._is_current()
            yield from self._read_on()
            if self._budget <= 0:
                self.behind = not self._over
                return
            if current or not self._open_next(os.fstat(self._descriptor).st_ino):
                return

    def _read_on(self) -> Iterator[Line]:
        while self._budget > 0 and (block := os.pread(self._descriptor, _BLOCK, self._offset)):
            self._offset += len(block)
            self._budget -= len(block)
            whole, newline, cut = (self._cut + block).rpartition(b"\n")
            self._cut = cut
            if newline:
                yield from self._lines(whole)
            if self._over:
                return

    def _lines(self, data: bytes) -> Iterator[Line]:
        since, until = self._wanted.since, self._wanted.until
        for record in data.split(b"\n"):
            line = _parse(record)
            if line is None or (since is not None and line.time < since):
                continue
            if until is not None and line.time > until:
                self._over = True
                return
            parts = self._fragments.get(line.stream)
            if not parts and not line.partial:
                yield line
                continue
            parts = self._fragments.setdefault(line.stream, [])
            parts.append(line)
            if not line.partial or sum(len(part.data) for part in parts) >= _JOINED_LIMIT:
                yield self._join(parts, partial=line.partial)
                parts.clear()

    @staticmethod
    def _join(parts: list[Line], *, partial: bool) -> Line:
        return parts[-1]._replace(data=b"".join([part.data for part in parts]), partial=partial)

    def _is_current(self) -> bool:
        try:
            return os.stat(self._path).st_ino == os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            # Between the two renames of a rotation, or the whole container is gone. A wake-up follows the first.
            return not _files(self._path)

    def _open_next(self, inode: int | None) -> bool:
        """Go to the file after the one with ``inode``, or to the oldest. False when there is none yet."""
        while True:
            files = _files(self._path)  # oldest first
            inodes = [found for _, found in files]
            following = files[inodes.index(inode) + 1 :] if inode in inodes else files
            if not following:
                return False
            path, expected = following[0]
            if self._open(path, expected):
                return True

    def _open(self, path: str, inode: int) -> bool:
        """False when a rotation has put another file there since it was listed."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        if os.fstat(descriptor).st_ino != inode:
            os.close(descriptor)
            return False
        self.close()
        self._descriptor, self._offset, self._cut = descriptor, 0, b""
        return True

    def _seek_since(self) -> None:
        """To the first block that can hold a record of ``since``: a file's records are in the order of time."""
        since = self._wanted.since
        if since is None:
            return
        for path, inode in _files(self._path):
            if not self._open(path, inode) or stamp(os.fstat(self._descriptor).st_mtime + 1) < since:
                continue
            low, high = 0, os.fstat(self._descriptor).st_size // _BLOCK
            while low < high:
                middle = (low + high + 1) // 2
                first = _first_time(self._descriptor, middle * _BLOCK)
                if first is not None and first < since:
                    low = middle
                else:
                    high = middle - 1
            self._start_at(low * _BLOCK)
            return

    def _seek_tail(self, count: int) -> None:
        """Backwards by blocks, over the files, until more than ``count`` lines have their end behind us."""
        since, until = self._wanted.since or "", self._wanted.until
        left = count
        for path, inode in reversed(_files(self._path)):
            if not self._open(path, inode):
                continue
            position = os.fstat(self._descriptor).st_size
            if count == 0:
                self._offset = position
                return
            kept = b""
            while position > 0:
                start = max(0, position - _BLOCK)
                block = os.pread(self._descriptor, position - start, start) + kept
                position = start
                # A block begins within a record; what is cut goes with the block before.
                kept, _, whole = block.partition(b"\n") if start else (b"", b"", block)
                records = [_parse(record) for record in whole.split(b"\n")]
                lines = [line for line in records if line is not None]
                left -= sum(not line.partial and (until is None or line.time <= until) for line in lines)
                if left < 0 or (lines and lines[0].time < since):
                    self._start_at(start)
                    return

    def _start_at(self, offset: int) -> None:
        """At the first record that begins at ``offset`` or after it."""
        if offset:
            position = offset - 1
            while block := os.pread(self._descriptor, _BLOCK, position):
                newline = block.find(b"\n")
                if newline >= 0:
                    self._offset = position + newline + 1
                    return
                position += len(block)
            offset = position
        self._offset = offset


def _named(key: str, lines: Iterator[Line]) -> Iterator[tuple[str, Line]]:
    for line in lines:
        yield key, line


def _parse(record: bytes) -> Line | None:
    """``TIME(30) STREAM(6) F|P DATA``: both streams' names have six letters. None for what is no record."""
    if len(record) < 40 or record[29:31] != b"Z " or record[37:38] != b" " or record[39:40] != b" ":
        return None
    return Line(
        record[:30].decode("ascii", "replace"),
        record[31:37].decode("ascii", "replace"),
        record[40:],
        record[38:39] == b"P",
    )


def _first_time(descriptor: int, offset: int) -> str | None:
    """The time of the first record that begins after ``offset``."""
    block = os.pread(descriptor, _BLOCK, offset)
    newline = block.find(b"\n")
    line = _parse(block[newline + 1 : newline + 41]) if newline >= 0 else None
    return None if line is None else line.time


def _size(path: str) -> int:
    """At least what the log's files hold now."""
    total = _BLOCK
    for name, _ in _files(path):
        try:
            total += os.stat(name).st_size
        except FileNotFoundError:
            continue  # rotated away
    return total


def _files(path: str) -> list[tuple[str, int]]:
    """The log's files with their inodes, oldest first."""
    folder, name = os.path.split(path)
    found = []
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    for entry in entries:
        suffix = entry.name[len(name) + 1 :]
        if entry.name == name or (entry.name.startswith(f"{name}.") and suffix.isdigit()):
            found.append((-int(suffix or 0), entry.path, entry.inode()))
    return [(path, inode) for _, path, inode in sorted(found)]
