"""A process beside one container that puts files into it: ``python -c … hand.main`` with the bundle's folder.

It opens the container's root through its mount namespace and stays outside of it, so it needs nothing in the image:
no tar, no shell, no libc. Every path is looked up beneath the target with openat2(2) and no symbolic link on the way
is followed: a link in the way of a folder is replaced by the folder. The target itself may be reached by links of the
image; where it really is, is found out when the hand begins, before the container's own processes do where the
container has just been made, and no link on that way is followed later.

A file is written beside its place and renamed into it, so nobody ever reads half of one. But a small one that was
saved by writing into it is written into here too, at a stroke: programs that watch the file itself (``node --watch``,
``tail -f``) would never hear of another one in its place. A new folder is filled before it gets its name, which costs
one rename for all that is in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.linux import namespace, openat2
from devenv.linux import process as linux_process
from devenv.runtime import init, user, view
from devenv.sync import giving, wire
from devenv.util import tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_NO_MAGICLINKS
_PLAIN = openat2.RESOLVE_IN_ROOT | openat2.RESOLVE_NO_SYMLINKS | openat2.RESOLVE_NO_MAGICLINKS
_INTO = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20
# Bytes that are written in one call, too fast for a reader to see half of them but by a rare chance.
_SMALL = 1 << 18

TEMPORARY = ".devenv-sync-"


def main(arguments: list[str]) -> None:
    """FD FOLDER NAME USER TARGET…: the socket, the bundle, what messages call it, whose the files are, where to."""
    linux_process.prctl(linux_process.PR_SET_DUMPABLE, 0)
    os.umask(0)
    at = socket.socket(fileno=int(arguments[0]))
    folder, name, owner, *targets = arguments[1:]
    try:
        hand = _opened(folder, name, owner, targets)
    except (errors.DevenvError, OSError) as exc:
        with contextlib.suppress(OSError):
            wire.send(at, wire.encode({"error": str(exc)}))
        sys.exit(1)
    try:
        wire.send(at, wire.encode({"ready": True}))
        while (message := wire.receive(at)) is not None:
            if "entries" in message.value:
                try:
                    answer = hand.apply(message.value["target"], message.value["entries"], message.files)
                finally:
                    for descriptor in message.files:
                        os.close(descriptor)
                wire.send(at, wire.encode(answer))
            else:
                hand.give(at, message.value)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the supervisor has died: the next one begins anew


def _opened(folder: str, name: str, owner: str, targets: list[str]) -> Hand:
    with view.opened(folder, name=name) as container:
        root = os.dup(container.root)
        space = os.dup(container.space) if container.space >= 0 else -1
    if space >= 0:
        # In there ids are what they are in the container.
        namespace.setns(space, namespace.CLONE_NEWUSER)
        init.become_root()
        os.close(space)
    who = user.resolve(root, owner)
    return Hand(root, (who.uid, who.gid), targets)


class Hand:
    def __init__(self, root: int, owner: tuple[int, int], targets: Sequence[str]) -> None:
        self._root = root
        self._owner = owner
        self._number = 0
        self._targets = {target: self._real(target) for target in targets}

    def apply(self, target: str, entries: Sequence[wire.Entry], files: Sequence[int]) -> dict[str, Any]:
        """Indexes of entries: what was changed, and what failed."""
        batch = _Batch(self, entries, files)
        try:
            batch.top = self._open_target(target)
        except OSError as exc:
            why = _reason(exc)
            return {"failed": [[index, exc.errno, why] for index in range(len(entries))], "changed": []}
        with contextlib.closing(batch):
            batch.run()
        return {"changed": batch.changed, "failed": batch.failed}

    def give(self, at: socket.socket, asked: dict[str, Any]) -> None:
        """What there is beneath a target. One that is not there has nothing."""
        try:
            top = openat2.openat2(self._root, self._targets[asked["target"]], _FOLDER, resolve=_PLAIN)
        except OSError:
            nothing = {"listed": [], "more": False} if "list" in asked else {"opened": [None] * len(asked["open"])}
            wire.send(at, wire.encode(nothing))
            return
        try:
            if "list" in asked:
                for answer in giving.listed(top, asked["list"]):
                    wire.send(at, wire.encode(answer))
                return
            answer, files = giving.opened(top, asked["open"])
            try:
                wire.send(at, wire.encode(answer), files)
            finally:
                for file in files:
                    os.close(file)
        finally:
            os.close(top)

    def name(self) -> str:
        self._number += 1
        return f"{TEMPORARY}{os.getpid():x}-{self._number:x}"

    # -- the target ---------------------------------------------------------------------------------------------

    def _real(self, target: str) -> str:
        """Where ``target`` is, links resolved; what is missing of it is made when something is put there."""
        existing, missing = target, ""
        while True:
            try:
                found = openat2.in_root(self._root, existing, os.O_PATH)
            except (FileNotFoundError, NotADirectoryError):
                if existing == "/":
                    raise
                existing, name = posixpath.split(existing)
                missing = f"{name}/{missing}"
                continue
            try:
                # The kernel's own words for where that is, seen from the root of its mount namespace.
                real = os.readlink(f"/proc/self/fd/{found}")
                base = os.readlink(f"/proc/self/fd/{self._root}")
            finally:
                os.close(found)
            if base != "/" and (real == base or real.startswith(f"{base}/")):
                real = real[len(base) :]
            return posixpath.normpath(f"/{real.lstrip('/')}/{missing}")

    def _open_target(self, target: str) -> int:
        real = self._targets.get(target)
        if real is None:
            raise OSError(errno.EINVAL, "not a target of this service's rules", target)
        try:
            return openat2.openat2(self._root, real, _FOLDER, resolve=_PLAIN)
        except FileNotFoundError:
            pass
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, f"a link made in the container leads away from `{target}`", real) from exc
            raise
        parent = openat2.openat2(self._root, "/", _FOLDER, resolve=_PLAIN)
        for part in real.strip("/").split("/"):
            try:
                inner = os.open(part, _FOLDER, dir_fd=parent)
            except FileNotFoundError:
                self.make_folder(parent, part, 0o755)
                inner = os.open(part, _FOLDER, dir_fd=parent)
            finally:
                os.close(parent)
            parent = inner
        return parent

    # -- things -------------------------------------------------------------------------------------------------

    def make_folder(self, parent: int, name: str, mode: int) -> None:
        os.mkdir(name, mode, dir_fd=parent)
        self.own(name, parent)

    def own(self, thing: str | int, parent: int | None = None) -> None:
        if self._owner == (0, 0):
            return
        try:
            if isinstance(thing, int):
                os.fchown(thing, *self._owner)
            else:
                os.chown(thing, *self._owner, dir_fd=parent, follow_symlinks=False)
        except OSError as exc:
            # EINVAL and EPERM: with a single id, as an ordinary user has it, everything is root's.
            if exc.errno not in {errno.EPERM, errno.EINVAL}:
                raise


class _Wanted(NamedTuple):
    """What a file is to be: see ``wire``."""

    mode: int
    size: int
    mtime: int
    fresh: bool
    inside: str
    kept: bool
    seen: list[int] | None = None

    def is_there(self, status: os.stat_result | None) -> bool:
        if status is None or self.fresh or not stat.S_ISREG(status.st_mode):
            return False
        same = (status.st_size, status.st_mtime_ns) == (self.size, self.mtime)
        return same and stat.S_IMODE(status.st_mode) == self.mode


class _Staged(NamedTuple):
    parent: int
    temporary: str
    name: str
    number: int  # of the entry that asked for it


class _Batch:
    """One message's entries, done in order."""

    def __init__(self, hand: Hand, entries: Sequence[wire.Entry], files: Sequence[int]) -> None:
        self._hand = hand
        self._entries = entries
        self._files = iter(files)
        self.top = -1
        self._index = 0
        self._folders: dict[str, int] = {}
        self._staged: dict[str, _Staged] = {}  # new folders by path, without their names so far
        self.changed: list[int] = []
        self.failed: list[list[Any]] = []

    def close(self) -> None:
        for folder in self._folders.values():
            os.close(folder)
        os.close(self.top)

    def run(self) -> None:
        kinds: dict[str, Callable[..., bool]] = {
            wire.FOLDER: self._folder,
            wire.LINK: self._link,
            wire.GONE: self._gone,
        }
        for index, (kind, path, *more) in enumerate(self._entries):
            content = next(self._files) if kind == wire.FILE else -1
            try:
                self._index = index
                done = self._file(path, content, _Wanted(*more)) if kind == wire.FILE else kinds[kind](path, *more)
                if done:
                    self.changed.append(index)
            except OSError as exc:
                self.failed.append([index, exc.errno, _reason(exc)])
        for path in list(self._staged):
            self._name(path)

    # -- where --------------------------------------------------------------------------------------------------

    def _parent(self, path: str, *, make: bool) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        if name in {"", ".", ".."}:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return self._open(folder, make=make), name

    def _open(self, folder: str, *, make: bool) -> int:
        if not folder:
            return self.top
        known = self._folders.get(folder)
        if known is not None:
            return known
        try:
            found = openat2.openat2(self.top, folder, _FOLDER, resolve=_STRICT)
        except OSError as exc:
            if not make or exc.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV}:
                raise
            above, name = self._parent(folder, make=True)
            self._folder_at(above, name, 0o755)
            found = os.open(name, _FOLDER, dir_fd=above)
        self._folders[folder] = found
        return found

    def _forget(self, path: str) -> None:
        """What was opened at or beneath it is something else now."""
        for folder in [each for each in self._staged if each == path or each.startswith(f"{path}/")]:
            self._name(folder)
        for folder in [each for each in self._folders if each == path or each.startswith(f"{path}/")]:
            os.close(self._folders.pop(folder))

    # -- what ---------------------------------------------------------------------------------------------------

    def _folder(self, path: str, mode: int) -> bool:
        parent, name = self._parent(path, make=True)
        status = _lstat(parent, name)
        if status is None and path not in self._staged:
            self._stage(path, parent, name, mode)
            return True
        if status is not None and not stat.S_ISDIR(status.st_mode):
            self._forget(path)
        return self._folder_at(parent, name, mode)

    def _stage(self, path: str, parent: int, name: str, mode: int) -> None:
        if self._is_staged(path):
            self._hand.make_folder(parent, name, mode)
        else:
            temporary = self._hand.name()
            self._hand.make_folder(parent, temporary, mode)
            self._staged[path] = _Staged(parent, temporary, name, self._index)
            name = temporary
        self._folders[path] = os.open(name, _FOLDER, dir_fd=parent)

    def _is_staged(self, path: str) -> bool:
        """Whether it lies in a folder that nobody can find yet."""
        return bool(self._staged) and any(path.startswith(f"{folder}/") for folder in self._staged)

    def _name(self, path: str) -> None:
        staged = self._staged.pop(path)
        try:
            os.rename(staged.temporary, staged.name, src_dir_fd=staged.parent, dst_dir_fd=staged.parent)
        except OSError as exc:
            # Something has come into its place meanwhile: the next look finds out what is missing there.
            self.failed.append([staged.number, exc.errno, _reason(exc)])
            tree.remove_at(staged.parent, staged.temporary)

    def _folder_at(self, parent: int, name: str, mode: int) -> bool:
        status = _lstat(parent, name)
        if status is not None and stat.S_ISDIR(status.st_mode):
            return False
        if status is not None:
            os.unlink(name, dir_fd=parent)
        self._hand.make_folder(parent, name, mode)
        return True

    def _file(self, path: str, content: int, wanted: _Wanted) -> bool:
        parent, name = self._parent(path, make=True)
        status = _lstat(parent, name)
        if status is not None and wanted.inside and stat.S_ISDIR(status.st_mode):
            parent, name = self._open(path, make=False), wanted.inside
            status = _lstat(parent, name)
        _check_seen(status, wanted.seen)
        if wanted.is_there(status):
            return False
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_size == wanted.size:
            if _equal(parent, name, content):
                return _brought_level(parent, name, status, wanted)
        elif status is not None and stat.S_ISDIR(status.st_mode):
            self._forget(path)
            tree.remove_at(parent, name)
        if not (wanted.kept and status is not None and self._write_into(parent, name, content, wanted, status)):
            self._write(parent, name, content, wanted, seen=not self._is_staged(path))
        return True

    def _write_into(self, parent: int, name: str, content: int, wanted: _Wanted, status: os.stat_result) -> bool:
        """Whether it could be done; the file is what it was before where it could not."""
        if not stat.S_ISREG(status.st_mode) or max(wanted.size, status.st_size) > _SMALL:
            return False
        try:
            file = os.open(name, _INTO, dir_fd=parent)
        except OSError:
            return False  # ETXTBSY: it is just being executed
        try:
            here = os.fstat(file)
            if not os.path.samestat(here, status) or here.st_nlink > 1:
                return False
            before = os.pread(file, _SMALL, 0)
            try:
                _put(file, os.pread(content, wanted.size, 0))
            except OSError:
                _put(file, before)  # on a full disk; what was there has its room
                raise
            self._hand.own(file)
            if stat.S_IMODE(status.st_mode) != wanted.mode:
                os.fchmod(file, wanted.mode)
            os.utime(file, ns=(wanted.mtime, wanted.mtime))
        finally:
            os.close(file)
        return True

    def _write(self, parent: int, name: str, content: int, wanted: _Wanted, *, seen: bool) -> None:
        """``seen``: somebody may read it while it is written."""
        temporary = self._hand.name() if seen else name
        made = os.open(temporary, _WRITE, wanted.mode, dir_fd=parent)
        try:
            try:
                # No more than was there when it was described: what is added meanwhile comes with the next look.
                left = wanted.size
                while left > 0 and (done := os.sendfile(made, content, None, left)):
                    left -= done
                self._hand.own(made)
                os.utime(made, ns=(wanted.mtime, wanted.mtime))
            finally:
                os.close(made)
            if seen:
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise

    def _link(self, path: str, leads: str) -> bool:
        parent, name = self._parent(path, make=True)
        status = _lstat(parent, name)
        if status is not None and stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=parent) == leads:
            return False
        if status is not None and stat.S_ISDIR(status.st_mode):
            self._forget(path)
            tree.remove_at(parent, name)
        temporary = self._hand.name()
        os.symlink(leads, temporary, dir_fd=parent)
        try:
            self._hand.own(temporary, parent)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        return True

    def _gone(self, path: str, inside: str, seen: list[int] | None = None) -> bool:
        try:
            parent, name = self._parent(path, make=False)
        except OSError as exc:
            if exc.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV}:
                return False  # with no folder there, there is no file; behind a link it isn't ours
            raise
        status = _lstat(parent, name)
        _check_seen(status, seen)
        if status is None:
            return False
        if inside and stat.S_ISDIR(status.st_mode):
            parent, name = self._open(path, make=False), inside
        self._forget(path)
        try:
            tree.remove_at(parent, name)
        except FileNotFoundError:
            return False
        return True


def _check_seen(status: os.stat_result | None, seen: list[int] | None) -> None:
    """What the container has written meanwhile is not to be lost. ``[]``: there was nothing."""
    if seen is None:
        return
    if (giving.seen(status) if status is not None and stat.S_ISREG(status.st_mode) else []) != seen:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def _put(file: int, data: bytes) -> None:
    """``data`` and nothing else, never through an empty file."""
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], done)
    os.ftruncate(file, len(data))


def _brought_level(parent: int, name: str, status: os.stat_result, wanted: _Wanted) -> bool:
    """Its content is right. Whether the mode was not."""
    changed = stat.S_IMODE(status.st_mode) != wanted.mode
    if not changed and status.st_mtime_ns == wanted.mtime:
        return False
    with _opened_file(parent, name) as file:
        if changed:
            os.fchmod(file, wanted.mode)
        os.utime(file, ns=(wanted.mtime, wanted.mtime))
    return changed


def _equal(parent: int, name: str, content: int) -> bool:
    with _opened_file(parent, name) as file:
        at = 0
        while True:
            ours, theirs = os.pread(file, _CHUNK, at), os.pread(content, _CHUNK, at)
            if ours != theirs:
                return False
            if not ours:
                return True
            at += len(ours)


@contextlib.contextmanager
def _opened_file(parent: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, _READ, dir_fd=parent)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EAGAIN, "it has just become something else", name)
        yield descriptor
    finally:
        os.close(descriptor)


def _lstat(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return None


def _reason(exc: OSError) -> str:
    return exc.strerror or str(exc)
