"""Carries one source of a selection to its place: see ``transfer`` for the rules.

Both sides are walked from open folder to name. A context's file is compared with what its digest was made of before
and after it is copied, so that what is built is what the cache says.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import time
from typing import NamedTuple

from devenv import errors
from devenv.build import attributes, content, context, inside, memory, modes, owners, placing, selection, walk

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Changed(errors.BuildError):
    """A context's file is not what its digest is of any more: select anew."""


@dataclasses.dataclass(slots=True)
class Copied:
    files: int = 0
    size: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)  # what could not be kept


class Options(NamedTuple):
    owner: owners.Owner | None
    change: modes.Change | None
    parents_mode: int
    epoch: int | None  # seconds; no time is later


class Spot(NamedTuple):
    """A name in an open folder."""

    folder: int
    name: str

    @property
    def path(self) -> str:
        """For the calls that take no folder's descriptor: the name is never followed."""
        return f"/proc/self/fd/{self.folder}/{self.name}"


class Look(NamedTuple):
    """What a thing is given beside its content."""

    mode: int
    owner: owners.Owner
    mtime: int
    attached: list[tuple[str, bytes]]


class _Level(NamedTuple):
    """A folder that is being filled."""

    relative: str
    source: int
    target: int
    entry: walk.Entry
    told: bool  # it takes on the source's mode, owner and attributes


class Copier:
    def __init__(self, root: int, options: Options, copied: Copied, tree: context.Tree | None = None) -> None:
        self._root = root
        self._options = options
        self._copied = copied
        self._tree = tree
        self._made: list[str] = []  # folders on the way
        self._links: dict[tuple[int, int], str] = {}  # inode -> where it was copied to

    def put(self, name: str, data: bytes, path: str) -> None:
        """An inline file."""
        target = self._place(path, name)
        try:
            file = _created(target, path)
            with open(file, "wb", buffering=0) as opened:
                view = memoryview(data)
                while view:
                    view = view[opened.write(view) :]
                moment = self._options.epoch if self._options.epoch is not None else int(time.time())
                owner = self._options.owner or (0, 0)
                self._settle(file, Look(stat.S_IFREG | 0o644, owner, moment * 10**9, []), path)
        finally:
            os.close(target.folder)
        self._copied.files += 1
        self._copied.size += len(data)
        self._finish()

    def run(self, one: selection.Root, path: str) -> None:
        assert self._tree is not None
        if one.is_folder:
            self._make(inside.canonical(self._root, placing.above(path)))
            target = inside.canonical(self._root, path)
            self._make(target)
            self._merge(one, target)
        else:
            entry = one.entries[0]
            spot = self._place(path, one.name)
            try:
                with inside.Folders(self._tree.root) as folders:
                    self._thing(Spot(*folders.parent(entry.path)), spot, entry, "")
            finally:
                os.close(spot.folder)
        self._finish()

    def _place(self, path: str, name: str) -> Spot:
        """The open folder that a file goes into, and its name there."""
        self._make(inside.canonical(self._root, placing.above(path)))
        target = inside.canonical(self._root, path)
        if inside.is_folder(self._root, target):
            return Spot(inside.folder(self._root, target), name)
        above, _, last = target.rpartition("/")
        self._make(above)
        return Spot(inside.folder(self._root, above), last)

    def _make(self, path: str) -> None:
        self._made += placing.make(self._root, path, mode=self._options.parents_mode, owner=self._options.owner)

    def _finish(self) -> None:
        epoch = self._options.epoch
        if epoch is not None:
            for path in reversed(self._made):
                folder = inside.folder(self._root, path)
                try:
                    if os.fstat(folder).st_mtime > epoch:
                        os.utime(folder, (epoch, epoch))
                finally:
                    os.close(folder)
        self._made.clear()

    # -- a folder ---------------------------------------------------------------------------------------------

    def _merge(self, one: selection.Root, target: str) -> None:
        assert self._tree is not None
        levels: list[_Level] = []
        try:
            top = one.entries[0]
            source = inside.folder(self._tree.root, one.path)
            try:
                levels.append(_Level("", source, inside.folder(self._root, target), top, False))
            except BaseException:
                os.close(source)
                raise
            for entry in one.entries[1:]:
                above, _, name = entry.relative.rpartition("/")
                while levels[-1].relative != above:
                    self._leave(levels.pop())
                level = levels[-1]
                if stat.S_ISDIR(entry.status.st_mode):
                    levels.append(self._enter(level, name, entry))
                else:
                    where = f"{target}/{entry.relative}" if target else entry.relative
                    self._thing(Spot(level.source, name), Spot(level.target, name), entry, where)
            while levels:
                self._leave(levels.pop())
        finally:
            for level in levels:
                os.close(level.source)
                os.close(level.target)

    def _enter(self, level: _Level, name: str, entry: walk.Entry) -> _Level:
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=level.target)
        except FileExistsError:
            made = False
            if not stat.S_ISDIR(os.lstat(name, dir_fd=level.target).st_mode):
                raise errors.BuildError(
                    f"the folder `{entry.path}` can't take the place of a file or link of the image",
                    hint=f"`{name}` is there already: remove it first, or copy to where it leads",
                ) from None
        source = _opened(Spot(level.source, name), _FOLDER, entry)
        try:
            target = os.open(name, _FOLDER, dir_fd=level.target)
        except BaseException:
            os.close(source)
            raise
        self._copied.files += 1
        return _Level(entry.relative, source, target, entry, made or not entry.implied)

    def _leave(self, level: _Level) -> None:
        try:
            status = level.entry.status
            if level.told:
                self._settle(level.target, self._look(status, attributes.of(level.source)), level.entry.path)
            elif not level.relative:
                moment = self._moment(status.st_mtime_ns)
                os.utime(level.target, ns=(moment, moment))
        finally:
            os.close(level.source)
            os.close(level.target)

    # -- one thing --------------------------------------------------------------------------------------------

    def _thing(self, source: Spot, target: Spot, entry: walk.Entry, where: str) -> None:
        """``where``: its path in the image, by which a further name of it finds it; "" where there is none."""
        status = entry.status
        self._copied.files += 1
        if stat.S_ISREG(status.st_mode):
            if where and status.st_nlink > 1:
                key = (status.st_dev, status.st_ino)
                if (known := self._links.get(key)) is not None:
                    self._link(known, target, entry.path)
                    return
                self._links[key] = where
            self._file(source, target, entry)
        elif stat.S_ISLNK(status.st_mode):
            self._symlink(source, target, entry)
        else:
            self._node(target, entry)

    def _file(self, source: Spot, target: Spot, entry: walk.Entry) -> None:
        status = entry.status
        opened = _opened(source, _SOURCE, entry)
        try:
            if memory.stamp(os.fstat(opened)) != memory.stamp(status):
                raise _changed(entry)
            file = _created(target, entry.path)
            try:
                self._copied.size += content.copy(opened, file, status)
                self._settle(file, self._look(status, attributes.of(opened)), entry.path)
            finally:
                os.close(file)
            if memory.stamp(os.fstat(opened)) != memory.stamp(status):
                raise _changed(entry)
        finally:
            os.close(opened)

    def _link(self, known: str, target: Spot, path: str) -> None:
        _make_way(target, path)
        above, _, name = known.rpartition("/")
        other = inside.folder(self._root, above)
        try:
            os.link(name, target.name, src_dir_fd=other, dst_dir_fd=target.folder, follow_symlinks=False)
        finally:
            os.close(other)

    def _symlink(self, source: Spot, target: Spot, entry: walk.Entry) -> None:
        try:
            link = os.readlink(source.name, dir_fd=source.folder)
            if memory.stamp(os.lstat(source.name, dir_fd=source.folder)) != memory.stamp(entry.status):
                raise _changed(entry)
        except OSError as exc:
            raise _changed(entry) from exc
        _make_way(target, entry.path)
        os.symlink(link, target.name, dir_fd=target.folder)
        self._named(target, entry, attributes.of(source.path))

    def _node(self, target: Spot, entry: walk.Entry) -> None:
        mode, device = entry.status.st_mode, entry.status.st_rdev
        if stat.S_ISSOCK(mode):  # nobody listens on a copy: an empty file stands for it
            mode, device = stat.S_IFREG | stat.S_IMODE(mode), 0
        elif stat.S_ISFIFO(mode):
            device = 0
        elif stat.S_ISCHR(mode) and device == 0:
            self._note(f"`{entry.path}` is left out: a device 0:0 would hide a file of the image")
            return
        _make_way(target, entry.path)
        try:
            os.mknod(target.name, stat.S_IFMT(mode) | 0o600, device, dir_fd=target.folder)
        except PermissionError:
            # mknod(2): devices belong to the initial user namespace.
            self._note(f"`{entry.path}` is left out: device nodes can't be made without root")
            return
        change = self._options.change
        self._named(target, entry, [])
        bits = change(mode) if change is not None else stat.S_IMODE(mode)
        os.chmod(target.name, bits, dir_fd=target.folder)  # not a link: it was made above

    def _named(self, target: Spot, entry: walk.Entry, attached: list[tuple[str, bytes]]) -> None:
        """The owner and the times of what can't be opened."""
        if not placing.own(target.folder, self._owner(entry.status), name=target.name):
            self._note("owners could not be kept: their user or group is not mapped here")
        if attached and not attributes.put(target.path, attached):
            self._note(f"attributes of `{entry.path}` could not be kept")
        moment = self._moment(entry.status.st_mtime_ns)
        os.utime(target.name, ns=(moment, moment), dir_fd=target.folder, follow_symlinks=False)

    def _look(self, status: os.stat_result, attached: list[tuple[str, bytes]]) -> Look:
        return Look(status.st_mode, self._owner(status), status.st_mtime_ns, attached)

    def _settle(self, file: int, look: Look, path: str) -> None:
        """The mode after the owner, since chown(2) takes setuid away; the attributes after both, capabilities too."""
        change = self._options.change
        bits = change(look.mode) if change is not None else stat.S_IMODE(look.mode)
        if not placing.own(file, look.owner):
            self._note("owners could not be kept: their user or group is not mapped here")
            bits &= 0o1777  # a setuid file must not be somebody else's
        os.fchmod(file, bits)
        if look.attached and not attributes.put(file, look.attached):
            self._note(f"attributes of `{path}` could not be kept")
        moment = self._moment(look.mtime)
        os.utime(file, ns=(moment, moment))

    def _owner(self, status: os.stat_result) -> owners.Owner:
        if self._options.owner is not None:
            return self._options.owner
        assert self._tree is not None
        return (status.st_uid, status.st_gid) if self._tree.owned else (0, 0)

    def _moment(self, mtime: int) -> int:
        epoch = self._options.epoch
        return mtime if epoch is None else min(mtime, epoch * 10**9)

    def _note(self, text: str) -> None:
        if text not in self._copied.notes:
            self._copied.notes.append(text)


def _opened(source: Spot, flags: int, entry: walk.Entry) -> int:
    try:
        return os.open(source.name, flags, dir_fd=source.folder)
    except PermissionError as exc:
        raise errors.BuildError(f"`{entry.path}` can't be read: {exc.strerror}") from exc
    except OSError as exc:
        raise _changed(entry) from exc


def _created(target: Spot, path: str) -> int:
    try:
        return os.open(target.name, _NEW, 0o600, dir_fd=target.folder)
    except FileExistsError:
        _make_way(target, path)
        return os.open(target.name, _NEW, 0o600, dir_fd=target.folder)


def _make_way(target: Spot, path: str) -> None:
    try:
        os.unlink(target.name, dir_fd=target.folder)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise errors.BuildError(
            f"the file `{path}` can't take the place of the folder `{target.name}` of the image", hint="remove it first"
        ) from None


def _changed(entry: walk.Entry) -> Changed:
    return Changed(f"`{entry.path}` was changed while it was copied", hint="build again when nothing writes to it")
