"""Files that a container makes, back into the project: which are new, and how they are put there.

What both sides last had in common is remembered by its digest. So it is known who has changed a file since:

    container   project
    changed     as it was, or has none      the container's is put into the project
    as it was   changed                     nothing: a sync carries that the other way
    changed     changed, otherwise          the project's stays; the container's is kept beside it, NAME.from-container

What the image has, and what nobody has touched since the container was made, is nobody's change. Deleting a file in
the container deletes nothing here. Everything blocks, and is called in worker threads, one at a time for a service.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from devenv.linux import openat2
from devenv.sync import giving, rules, transfer, wire
from devenv.util import fs

LARGEST = 256 << 20  # bytes of a file that is pulled
_CHUNK = 1 << 20
_STRICT = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDERS = 200  # that are asked about at once
_ATTEMPTS = 4  # at a file that is being written on both sides

Seen = tuple[int, ...]  # of ``giving.seen``
Place = tuple[str, str]  # a target, and the path beneath it


class Pulled(NamedTuple):
    path: str  # of this machine
    kept: str = ""  # where the container's is instead, after a change on both sides


class Refused(NamedTuple):
    path: str
    why: str


class Memory:
    """What is known of a service's files, for one container after the other, and across sessions."""

    def __init__(self, path: str) -> None:
        self._path = path
        found = fs.read_json(path)
        self._common: dict[Place, str] = {}
        for target, files in (found if isinstance(found, dict) else {}).items():
            self._common |= {(target, path): str(digest) for path, digest in files.items()}
        self._is_saved = True
        self.container = ""
        self.seen: dict[Place, Seen] = {}  # of ``container``

    def turn_to(self, container: str) -> None:
        if container != self.container:
            self.container, self.seen = container, {}

    def common(self, place: Place) -> str:
        return self._common.get(place, "")

    def agree(self, place: Place, digest: str) -> None:
        if self._common.get(place) != digest:
            self._common[place] = digest
            self._is_saved = False

    def save(self) -> None:
        if not self._is_saved:
            found: dict[str, dict[str, str]] = {}
            for (target, path), digest in self._common.items():
                found.setdefault(target, {})[path] = digest
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            fs.write_json(self._path, found)
            self._is_saved = True


class Puller:
    """For the rules of one service that have `pull:`. Raises ``SyncError`` when the hand has died."""

    def __init__(self, found: Sequence[rules.Rule], memory: Memory) -> None:
        self.rules = [rule for rule in found if rule.pull is not None]
        self.memory = memory

    def pull(self, hand: transfer.Hand, container: str, made: float) -> list[Pulled | Refused]:
        """What has changed in ``container``, which was made at that time (seconds since the epoch)."""
        self.memory.turn_to(container)
        told: list[Pulled | Refused] = []
        for rule in self.rules:
            places = [(path, seen) for path, seen in self._changed(hand, rule)]
            for start in range(0, len(places), wire.FILES):
                told += self._take(hand, rule, places[start : start + wire.FILES], made)
        self.memory.save()
        return told

    def carry(
        self, hand: transfer.Hand, container: str, made: float, items: Sequence[transfer.Item]
    ) -> tuple[transfer.Result, list[Pulled | Refused]]:
        """The other way, ``hand.apply``, and yet nothing is lost that the container wrote a moment ago."""
        told = self.pull(hand, container, made) if any(map(self._concerns, items)) else []
        result = transfer.Result([], [])
        left = [item._replace(seen=None) for item in items]
        for attempt in range(_ATTEMPTS):
            again = hand.apply([self._expecting(item) for item in left])
            result.changed.extend(again.changed)
            stale = [each for each in again.failed if each.number == errno.ESTALE]
            result.failed.extend(each for each in again.failed if each not in stale or attempt == _ATTEMPTS - 1)
            failed = {(each.item.target, each.item.path) for each in again.failed}
            self._carried(hand, (item for item in left if (item.target, item.path) not in failed))
            left = [each.item for each in stale]
            if not left:
                break
            told += self.pull(hand, container, made)
        self.memory.save()
        return result, told

    def _expecting(self, item: transfer.Item) -> transfer.Item:
        return item._replace(seen=self.memory.seen.get((item.target, item.path), ()) if self._pulls(item) else None)

    def _carried(self, hand: transfer.Hand, items: Iterable[transfer.Item]) -> None:
        """What is there now is the project's: as it was carried over, which may be another one here by now."""
        targets: dict[str, list[str]] = {}
        for item in items:
            if self._pulls(item):
                self.memory.seen.pop((item.target, item.path), None)
                targets.setdefault(item.target, []).append(item.path)
        for target, paths in targets.items():
            for start in range(0, len(paths), wire.FILES):
                some = paths[start : start + wire.FILES]
                for path, found in zip(some, hand.opened(target, some), strict=True):
                    if found is None:
                        continue
                    file, seen = found
                    try:
                        # A hand gives the time of the project's file; who writes in the container changes both times.
                        if seen[2] != seen[3]:
                            self.memory.agree((target, path), _digest(file))
                            self.memory.seen[target, path] = seen
                    finally:
                        os.close(file)

    def _pulls(self, item: transfer.Item) -> bool:
        return any(_target(rule) == item.target and rule.pulls(item.path) for rule in self.rules)

    def _concerns(self, item: transfer.Item) -> bool:
        """Whether it is pulled itself, or is gone with what is."""
        if self._pulls(item):
            return True
        mine = [rule.pull for rule in self.rules if _target(rule) == item.target and rule.pull is not None]
        return any(pull.may_match_in(item.path) for pull in mine) and not os.path.lexists(item.source)

    # -- there -------------------------------------------------------------------------------------------------

    def _changed(self, hand: transfer.Hand, rule: rules.Rule) -> Iterator[tuple[str, Seen]]:
        target, pending = _target(rule), [""]
        assert rule.pull is not None
        while pending:
            asked, pending = pending[:_FOLDERS], pending[_FOLDERS:]
            for kind, path, seen in hand.listed(target, asked):
                if kind == wire.FOLDER:
                    if rule.pull.may_match_in(path) and not rule.prunes(os.path.join(rule.path, path)):
                        pending.append(path)
                elif self.memory.seen.get((target, path)) != seen and rule.pulls(path):
                    yield path, seen

    def _take(
        self, hand: transfer.Hand, rule: rules.Rule, places: Sequence[tuple[str, Seen]], made: float
    ) -> Iterator[Pulled | Refused]:
        target = _target(rule)
        for (path, _), found in zip(places, hand.opened(target, [path for path, _ in places]), strict=True):
            if found is None:
                continue
            file, seen = found
            try:
                with _Here(rule.path, path) as here:
                    told = self._decide(here, (target, path), file, seen, made)
            except _Again:
                continue
            except OSError as exc:
                told = Refused(os.path.join(rule.path, path), exc.strerror or str(exc))
            finally:
                os.close(file)
            self.memory.seen[target, path] = seen
            if told is not None:
                yield told

    def _decide(self, here: _Here, place: Place, file: int, seen: Seen, made: float) -> Pulled | Refused | None:
        _, size, _, changed, mode = seen
        if size > LARGEST:
            return Refused(here.path, f"it is larger than {LARGEST >> 20} MiB")
        theirs, ours, common = _digest(file), here.digest(), self.memory.common(place)
        if theirs == ours:
            self.memory.agree(place, theirs)
            return None
        if theirs == common or changed < made * 1e9:
            return None
        if ours and ours != common:
            return Pulled(here.path, here.keep(file, mode, theirs))
        here.put(file, seen)
        self.memory.agree(place, theirs)
        return Pulled(here.path)


def _target(rule: rules.Rule) -> str:
    return rule.target.rstrip("/") or "/"


class _Again(Exception):
    """Somebody is just saving it here: the next look is to decide."""


class _Here:
    """A place in the project. No link on the way to it is followed; folders are made when something is put there."""

    def __init__(self, base: str, path: str) -> None:
        self.path = os.path.join(base, path)
        self._base, self._relative = base, path
        self._top = -1
        self._status: Seen = ()  # of what was read

    def __enter__(self) -> _Here:
        try:
            self._top = os.open(self._base, _FOLDER)
        except FileNotFoundError:
            parent = os.open(os.path.dirname(self._base), _FOLDER)
            try:
                _make(parent, os.path.basename(self._base))
                self._top = os.open(os.path.basename(self._base), _FOLDER, dir_fd=parent)
            finally:
                os.close(parent)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._top)

    def digest(self) -> str:
        """Of what is there; "" if nothing is. Raises ``OSError`` where it can't be told, or is no file."""
        try:
            file = openat2.openat2(self._top, self._relative, _READ, resolve=_STRICT)
        except FileNotFoundError:
            return ""
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EISDIR, "there is something else than a file in the project")
            self._status = tuple(giving.seen(status))
            return _digest(file)
        finally:
            os.close(file)

    def put(self, file: int, seen: Seen) -> None:
        """In the place of what ``digest`` was of. Raises ``_Again`` if that is another one by now."""
        parent, name = self._parent()
        try:
            self._write(parent, name, file, mode=seen[4], mtime=seen[2])
        finally:
            os.close(parent)

    def keep(self, file: int, mode: int, digest: str) -> str:
        """Under a name beside it that is free, or has this content already."""
        parent, name = self._parent()
        try:
            number = 1
            while True:
                kept = f"{name}.from-container" + (f"-{number}" if number > 1 else "")
                try:
                    there = os.open(kept, _READ, dir_fd=parent)
                except FileNotFoundError:
                    self._write(parent, kept, file, mode=mode, mtime=None)
                    break
                try:
                    if _digest(there) == digest:
                        break
                finally:
                    os.close(there)
                number += 1
            return f"{os.path.dirname(self.path)}/{kept}"
        finally:
            os.close(parent)

    def _parent(self) -> tuple[int, str]:
        parent = os.dup(self._top)
        *folders, name = self._relative.split("/")
        for folder in folders:
            try:
                try:
                    inner = openat2.openat2(parent, folder, _FOLDER, resolve=_STRICT)
                except FileNotFoundError:
                    _make(parent, folder)
                    inner = openat2.openat2(parent, folder, _FOLDER, resolve=_STRICT)
            finally:
                os.close(parent)
            parent = inner
        return parent, name

    def _write(self, parent: int, name: str, file: int, *, mode: int, mtime: int | None) -> None:
        temporary = f".devenv-sync-{fs.unique()}"
        made = os.open(temporary, _WRITE, mode & 0o777 | 0o600, dir_fd=parent)
        try:
            try:
                offset = 0
                while data := os.pread(file, _CHUNK, offset):
                    offset += os.write(made, data)
                _give(parent, temporary)
                os.fchmod(made, mode & 0o777)  # whatever our own umask
                if mtime is not None:
                    os.utime(made, ns=(mtime, mtime))
            finally:
                os.close(made)
            if mtime is not None and _state(parent, name) != self._status:
                raise _Again
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise


def _state(parent: int, name: str) -> Seen:
    try:
        return tuple(giving.seen(os.lstat(name, dir_fd=parent)))
    except FileNotFoundError:
        return ()


def _make(parent: int, name: str) -> None:
    os.mkdir(name, 0o700, dir_fd=parent)
    _give(parent, name)
    os.chmod(name, 0o755, dir_fd=parent)


def _give(parent: int, name: str) -> None:
    """To whom the folder belongs: root may be who runs this, and the project is another's."""
    whose = os.fstat(parent)
    if (whose.st_uid, whose.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.chown(name, whose.st_uid, whose.st_gid, dir_fd=parent, follow_symlinks=False)


def _digest(file: int) -> str:
    found, offset = hashlib.sha256(), 0
    while data := os.pread(file, _CHUNK, offset):
        found.update(data)
        offset += len(data)
    return found.hexdigest()
