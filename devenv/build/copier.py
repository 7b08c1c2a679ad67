"""Carries one source of a selection to its place: see ``transfer`` for the rules.

Both sides are walked from open folder to name. A context's file is compared with what its digest was made of before
and after it is copied, so that what is built is what the cache says.
"""

from __future__ import annotations

import functools
import os
import stat
import time
from typing import NamedTuple

from devenv import errors
from devenv.build import (
    archives,
    attributes,
    content,
    context,
    finishing,
    inside,
    memory,
    owners,
    placing,
    selection,
    walk,
)
from devenv.image import source as image_source

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Changed(errors.BuildError):
    """A context's file is not what its digest is of any more: select anew."""


class _Level(NamedTuple):
    """A folder that is being filled."""

    relative: str
    source: int
    target: int
    entry: walk.Entry
    told: bool  # it takes on the source's mode, owner and attributes


class Copier:
    def __init__(
        self, root: int, options: finishing.Options, copied: finishing.Copied, tree: context.Tree | None = None
    ) -> None:
        self._root = root
        self._options = options
        self._copied = copied
        self._finisher = finishing.Finisher(options, copied)
        self._tree = tree
        self._made: list[str] = []  # folders on the way
        self._links: dict[tuple[int, int], str] = {}  # inode -> where it was copied to

    def put(self, name: str, data: bytes, path: str) -> None:
        """An inline file."""
        target = self._place(path, name)
        try:
            file = finishing.created(target, path, finishing.unlink)
            with open(file, "wb", buffering=0) as opened:
                view = memoryview(data)
                while view:
                    view = view[opened.write(view) :]
                moment = self._options.epoch if self._options.epoch is not None else int(time.time())
                owner = self._options.owner or (0, 0)
                self._finisher.settle(file, finishing.Look(stat.S_IFREG | 0o644, owner, moment * 10**9, []), path)
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
                    self._thing(finishing.Spot(*folders.parent(entry.path)), spot, entry, "")
            finally:
                os.close(spot.folder)
        self._finish()

    def unpack(self, one: selection.Root, path: str) -> bool:
        """If it is an archive: into the folder ``path``, whatever that ends in. ``--chmod`` isn't for what is in it."""
        assert self._tree is not None
        entry = one.entries[0]
        with inside.Folders(self._tree.root) as folders:
            opened = _opened(finishing.Spot(*folders.parent(entry.path)), _SOURCE, entry)
        try:
            if not archives.is_archive(opened):
                return False
            target = inside.canonical(self._root, path)
            self._made += placing.make(self._root, target, mode=0o755, owner=self._options.owner)
            origin = image_source.File(f"/proc/self/fd/{opened}")
            self._made += archives.unpack(
                origin, self._root, target, self._options._replace(change=None), self._copied, name=entry.path
            )
            if memory.stamp(os.fstat(opened)) != memory.stamp(entry.status):
                raise _changed(entry)
        finally:
            os.close(opened)
        self._finish()
        return True

    def _place(self, path: str, name: str) -> finishing.Spot:
        """The open folder that a file goes into, and its name there."""
        self._make(inside.canonical(self._root, placing.above(path)))
        target = inside.canonical(self._root, path)
        if inside.is_folder(self._root, target):
            return finishing.Spot(inside.folder(self._root, target), name)
        above, _, last = target.rpartition("/")
        self._make(above)
        return finishing.Spot(inside.folder(self._root, above), last)

    def _make(self, path: str) -> None:
        self._made += placing.make(self._root, path, mode=self._options.parents_mode, owner=self._options.owner)

    def _finish(self) -> None:
        epoch = self._options.epoch
        if epoch is not None:
            for path in filter(functools.partial(inside.is_folder, self._root), reversed(self._made)):
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
                    self._thing(finishing.Spot(level.source, name), finishing.Spot(level.target, name), entry, where)
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
        source = _opened(finishing.Spot(level.source, name), _FOLDER, entry)
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
                self._finisher.settle(level.target, self._look(status, attributes.of(level.source)), level.entry.path)
            elif not level.relative:
                moment = self._finisher.moment(status.st_mtime_ns)
                os.utime(level.target, ns=(moment, moment))
        finally:
            os.close(level.source)
            os.close(level.target)

    # -- one thing --------------------------------------------------------------------------------------------

    def _thing(self, source: finishing.Spot, target: finishing.Spot, entry: walk.Entry, where: str) -> None:
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
            look = self._look(status, [])
            self._finisher.node(target, look, status.st_rdev, entry.path, finishing.unlink)

    def _file(self, source: finishing.Spot, target: finishing.Spot, entry: walk.Entry) -> None:
        status = entry.status
        opened = _opened(source, _SOURCE, entry)
        try:
            if memory.stamp(os.fstat(opened)) != memory.stamp(status):
                raise _changed(entry)
            file = finishing.created(target, entry.path, finishing.unlink)
            try:
                self._copied.size += content.copy(opened, file, status)
                self._finisher.settle(file, self._look(status, attributes.of(opened)), entry.path)
            finally:
                os.close(file)
            if memory.stamp(os.fstat(opened)) != memory.stamp(status):
                raise _changed(entry)
        finally:
            os.close(opened)

    def _link(self, known: str, target: finishing.Spot, path: str) -> None:
        finishing.unlink(target, path)
        above, _, name = known.rpartition("/")
        other = inside.folder(self._root, above)
        try:
            os.link(name, target.name, src_dir_fd=other, dst_dir_fd=target.folder, follow_symlinks=False)
        finally:
            os.close(other)

    def _symlink(self, source: finishing.Spot, target: finishing.Spot, entry: walk.Entry) -> None:
        try:
            link = os.readlink(source.name, dir_fd=source.folder)
            if memory.stamp(os.lstat(source.name, dir_fd=source.folder)) != memory.stamp(entry.status):
                raise _changed(entry)
        except OSError as exc:
            raise _changed(entry) from exc
        finishing.unlink(target, entry.path)
        os.symlink(link, target.name, dir_fd=target.folder)
        self._finisher.named(target, self._look(entry.status, attributes.of(source.path)), entry.path)

    def _look(self, status: os.stat_result, attached: list[tuple[str, bytes]]) -> finishing.Look:
        return finishing.Look(status.st_mode, self._owner(status), status.st_mtime_ns, attached)

    def _owner(self, status: os.stat_result) -> owners.Owner:
        if self._options.owner is not None:
            return self._options.owner
        assert self._tree is not None
        return (status.st_uid, status.st_gid) if self._tree.owned else (0, 0)


def _opened(source: finishing.Spot, flags: int, entry: walk.Entry) -> int:
    try:
        return os.open(source.name, flags, dir_fd=source.folder)
    except PermissionError as exc:
        raise errors.BuildError(f"`{entry.path}` can't be read: {exc.strerror}") from exc
    except OSError as exc:
        raise _changed(entry) from exc


def _changed(entry: walk.Entry) -> Changed:
    return Changed(f"`{entry.path}` was changed while it was copied", hint="build again when nothing writes to it")
