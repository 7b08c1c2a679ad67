"""The supervisor's side of a hand: starts one for a container, and makes what is on this machine so in there.

Everything here blocks, and is called in worker threads, one at a time for each container.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import devenv
from devenv import errors
from devenv.linux import sealed, statx
from devenv.sync import wire

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# A file that was changed this short a time ago may be changed again within one tick of its filesystem's clock.
FRESH_SECONDS = 2.0
# Nanoseconds between the birth of a file and its last change that no program lets pass which writes it anew.
_NEW = 1_000_000_000
_LEAVING = 5.0  # seconds a hand may take to finish what it is doing


class Item(NamedTuple):
    """A path of this machine, and where it belongs: beneath ``target``."""

    source: str
    target: str
    path: str
    inside: str = ""  # see ``wire``
    mode: Callable[[int], int] | None = None  # from its st_mode to the permissions it gets
    seen: tuple[int, ...] | None = None  # see ``wire``: () where there was nothing


class Failure(NamedTuple):
    item: Item
    number: int
    reason: str


class Result(NamedTuple):
    changed: list[Item]
    failed: list[Failure]


class Hand:
    """Raises ``SyncError`` when it can't be started, and when it has died."""

    def __init__(self, folder: str, *, name: str, owner: str, targets: Iterable[str]) -> None:
        """``folder`` is the bundle of the container that messages call ``name``; ``owner`` as `user:` has it."""
        self._name = name
        self._busy = threading.Lock()
        self._wire, theirs = wire.pair()
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        root = str(pathlib.Path(devenv.__file__).resolve().parent.parent)
        program = f"import sys; sys.path.insert(0, {root!r}); from devenv.sync import hand; hand.main(sys.argv[1:])"
        words = [str(theirs.fileno()), folder, name, owner, *dict.fromkeys(targets)]
        with theirs:
            # -I and -S: nothing of the user's site, folder or environment gets into what reaches into a container.
            self._process = subprocess.Popen(
                [sealed.interpreter(), "-I", "-S", "-c", program, *words],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env={},
            )
        try:
            answer = self._hear()
            if "error" in answer:
                raise errors.SyncError(f"no files can be carried into `{name}`: {answer['error']}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Returns when it has gone: until then it keeps the container's root mounted."""
        with contextlib.suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_LEAVING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._busy:
            self._wire.close()

    def apply(self, items: Sequence[Item]) -> Result:
        """Make it in the container as it is on this machine at this moment, what is gone there included."""
        with self._busy:
            result = Result([], [])
            groups: dict[str, list[Item]] = {}
            for item in items:
                groups.setdefault(item.target, []).append(item)
            for target, group in groups.items():
                self._exchange(target, group, result)
            return result

    def listed(self, target: str, folders: Sequence[str]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """What is in ``folders`` beneath ``target``: kind, path and what was seen of it. To be read to its end."""
        with self._busy:
            try:
                wire.send(self._wire, wire.encode({"target": target, "list": folders}))
            except OSError as exc:
                raise self._died() from exc
            more = True
            while more:
                answer = self._hear()
                more = answer["more"]
                for kind, path, seen in answer["listed"]:
                    yield kind, path, tuple(seen)

    def opened(self, target: str, paths: Sequence[str]) -> list[tuple[int, tuple[int, ...]] | None]:
        """A descriptor of each file's content, the caller's to close, and what was seen of it; None for no file."""
        with self._busy:
            try:
                wire.send(self._wire, wire.encode({"target": target, "open": paths}))
                message = wire.receive(self._wire)
            except OSError as exc:
                raise self._died() from exc
            if message is None:
                raise self._died()
            files = iter(message.files)
            return [None if seen is None else (next(files), tuple(seen)) for seen in message.value["opened"]]

    def _exchange(self, target: str, items: Sequence[Item], result: Result) -> None:
        under_way: list[list[Item]] = []
        try:
            for chunk, entries, files in _chunks(items):
                message = wire.encode({"target": target, "entries": entries})
                try:
                    wire.send(self._wire, message, files)
                finally:
                    for descriptor in files:
                        os.close(descriptor)
                under_way.append(chunk)
                if len(under_way) >= wire.AHEAD:
                    self._answered(under_way.pop(0), result)
            while under_way:
                self._answered(under_way.pop(0), result)
        except OSError as exc:
            raise self._died() from exc

    def _answered(self, chunk: list[Item], result: Result) -> None:
        answer = self._hear()
        result.changed.extend(chunk[index] for index in answer["changed"])
        result.failed.extend(Failure(chunk[index], number, why) for index, number, why in answer["failed"])

    def _hear(self) -> Any:
        message = wire.receive(self._wire)
        if message is None:
            raise self._died()
        return message.value

    def _died(self) -> errors.SyncError:
        return errors.SyncError(f"what carries files into `{self._name}` has ended in the middle of it")


def _chunks(items: Sequence[Item]) -> Iterator[tuple[list[Item], list[wire.Entry], list[int]]]:
    chunk: list[Item] = []
    entries: list[wire.Entry] = []
    files: list[int] = []
    length = 0
    for item in items:
        described = _describe(item)
        if described is None:
            continue
        entry, descriptor = described
        if descriptor >= 0:
            files.append(descriptor)
        chunk.append(item)
        entries.append(entry)
        # JSON writes a character of a path with up to twelve.
        length += 12 * len(item.path) + 12 * len(item.inside) + 100
        if length > wire.LONGEST or len(files) >= wire.FILES:
            yield chunk, entries, files
            chunk, entries, files, length = [], [], [], 0
    if chunk:
        yield chunk, entries, files


def _describe(item: Item) -> tuple[wire.Entry, int] | None:
    """What is there now, with its content; None for what can't be carried over, such as a socket."""
    try:
        status = os.lstat(item.source)
        if stat.S_ISDIR(status.st_mode):
            return [wire.FOLDER, item.path, status.st_mode & 0o777 | 0o300], -1
        if stat.S_ISLNK(status.st_mode):
            return [wire.LINK, item.path, os.readlink(item.source)], -1
        if not stat.S_ISREG(status.st_mode):
            return None
        descriptor = os.open(item.source, _READ)
    except (FileNotFoundError, NotADirectoryError):
        return [wire.GONE, item.path, item.inside, *_seen(item)], -1
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    fresh = abs(time.time() - status.st_mtime) < FRESH_SECONDS
    mode, size = (item.mode or _own_mode)(status.st_mode) & 0o777, status.st_size
    kept = fresh and _is_kept(descriptor, status)
    return [wire.FILE, item.path, mode, size, status.st_mtime_ns, fresh, item.inside, kept, *_seen(item)], descriptor


def _seen(item: Item) -> tuple[tuple[int, ...], ...]:
    return () if item.seen is None else (item.seen,)


def _own_mode(mode: int) -> int:
    return mode


def _is_kept(descriptor: int, status: os.stat_result) -> bool:
    """Whether it was saved by writing into the file that was there. One that takes another's place was made for it."""
    try:
        born = statx.birth(descriptor)
    except OSError:
        return False
    return born is not None and status.st_mtime_ns - born > _NEW
