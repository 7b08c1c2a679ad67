"""A tar stream into a folder beneath one root: for `cp`, in both directions.

The stream is somebody else's wish: every parent folder is looked up by openat2(2) beneath the root, `..` is refused,
and the last name is never followed. A link in the way of a file is replaced, one in the way of a path is resolved
inside the root.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from devenv import errors
from devenv.linux import openat2
from devenv.util import tree

CHUNK = 1 << 20


class Policy(NamedTuple):
    owners: bool  # the archive's; else those of ``owner``, or of whoever unpacks if that is None
    owner: tuple[int, int] | None = None


class Unpacker:
    def __init__(self, root: int, folder: str, policy: Policy, *, rename: Callable[[str], str | None]) -> None:
        """``folder`` is there. ``rename``: a name of the archive -> its name in the folder; None to leave it out."""
        self._root = root
        self._folder = folder.rstrip("/")
        self._policy = policy
        self._rename = rename
        self._folders: list[tuple[str, tarfile.TarInfo]] = []
        self.notes: list[str] = []

    def run(self, stream: BinaryIO) -> None:
        """Raises ``OSError`` and ``ContainerError``."""
        try:
            with tarfile.open(fileobj=stream, mode="r|*", errorlevel=2) as archive:
                for member in archive:
                    name = self._target(member.name)
                    if name is not None:
                        self._apply(archive, member, name)
            while stream.read(CHUNK):  # whoever writes still has padding to write
                pass
        except tarfile.TarError as exc:
            raise errors.ContainerError(f"the stream is no tar archive: {exc}") from exc
        for name, member in reversed(self._folders):
            folder = self._open(name)
            try:
                os.fchmod(folder, member.mode & 0o7777)
                os.utime(folder, ns=_times(member))
            finally:
                os.close(folder)

    def _target(self, given: str) -> str | None:
        """Where it goes, relative to the folder; "" is the folder itself."""
        parts = [part for part in given.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise errors.ContainerError(f"the archive has `{given}`, which would lead out of where it is unpacked")
        return self._rename("/".join(parts))

    def _apply(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        if not name:
            return  # what is there keeps its mode and owner
        parent = self._parent(name)
        last = os.path.basename(name)
        try:
            if member.isdir():
                self._make_folder(parent, last, member)
                self._folders.append((name, member))
                return
            self._make_way(parent, last, name)
            if member.isreg():
                self._make_file(parent, last, archive, member)
            elif member.issym():
                os.symlink(member.linkname, last, dir_fd=parent)
                self._own(parent, last, member)
            elif member.islnk():
                self._make_link(parent, last, member)
                return
            elif member.isfifo() or member.ischr() or member.isblk():
                self._make_node(parent, last, member)
            else:
                self.notes.append(f"`{member.name}` is of a kind that is left out")
                return
            os.utime(last, ns=_times(member), dir_fd=parent, follow_symlinks=False)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, f"{self._folder}/{name}") from exc
        finally:
            os.close(parent)

    # -- places -----------------------------------------------------------------------------------------------

    def _open(self, name: str) -> int:
        return openat2.in_root(self._root, f"{self._folder}/{name}", os.O_RDONLY | os.O_DIRECTORY)

    def _parent(self, name: str) -> int:
        """The folder that ``name`` is in, made if it is missing."""
        path = os.path.dirname(name)
        try:
            return self._open(path)
        except FileNotFoundError:
            above = self._parent(path)
        try:
            os.mkdir(os.path.basename(path), 0o755, dir_fd=above)
            if self._policy.owner is not None:
                os.chown(os.path.basename(path), *self._policy.owner, dir_fd=above, follow_symlinks=False)
        except FileExistsError as exc:
            raise OSError(errno.ENOTDIR, "a link that leads nowhere is in its place", path) from exc
        finally:
            os.close(above)
        return self._open(path)

    def _make_way(self, parent: int, last: str, name: str) -> None:
        try:
            status = os.lstat(last, dir_fd=parent)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            raise errors.ContainerError(f"a folder is in the way of the file `{self._folder}/{name}`")
        try:
            os.unlink(last, dir_fd=parent)
        except OSError as exc:
            # A file that is mounted is written to as it is.
            if exc.errno != errno.EBUSY or not stat.S_ISREG(status.st_mode):
                raise

    # -- things -----------------------------------------------------------------------------------------------

    def _make_folder(self, parent: int, last: str, member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(last, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(last, dir_fd=parent).st_mode):
                tree.remove_at(parent, last)
                os.mkdir(last, 0o700, dir_fd=parent)
        self._own(parent, last, member)

    def _make_file(self, parent: int, last: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        content = archive.extractfile(member)
        assert content is not None
        with open(os.open(last, flags, 0o600, dir_fd=parent), "wb", buffering=0) as file:
            while data := content.read(CHUNK):
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
            # By the descriptor: the name may lead elsewhere by now. The mode after the owner, which takes setuid away.
            self._own(file.fileno(), None, member)
            os.fchmod(file.fileno(), member.mode & 0o7777)
            for key, value in member.pax_headers.items():
                if key.startswith("SCHILY.xattr.") and self._policy.owners:
                    self._attribute(file.fileno(), member.name, key.removeprefix("SCHILY.xattr."), value)

    def _attribute(self, file: int, path: str, name: str, value: str) -> None:
        try:
            os.setxattr(file, name, value.encode("utf-8", "surrogateescape"))
        except OSError as exc:
            self.notes.append(f"`{path}` doesn't keep its {name}: {exc.strerror}")

    def _make_link(self, parent: int, last: str, member: tarfile.TarInfo) -> None:
        target = self._target(member.linkname)
        if not target:
            self.notes.append(f"`{member.name}` is a link to `{member.linkname}`, which is left out")
            return
        other = self._parent(target)
        try:
            os.link(os.path.basename(target), last, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(other)

    def _make_node(self, parent: int, last: str, member: tarfile.TarInfo) -> None:
        kind = stat.S_IFIFO if member.isfifo() else stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        before = os.umask(0)
        try:
            os.mknod(last, kind | member.mode & 0o7777, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
        finally:
            os.umask(before)
        self._own(parent, last, member)

    def _own(self, place: int, last: str | None, member: tarfile.TarInfo) -> None:
        """``place`` itself, or what is called ``last`` in it."""
        owner = (member.uid, member.gid) if self._policy.owners else self._policy.owner
        if owner is None:
            return
        try:
            if last is None:
                os.fchown(place, *owner)
            else:
                os.chown(last, *owner, dir_fd=place, follow_symlinks=False)
        except OSError as exc:
            # EPERM, and EINVAL for an id that isn't mapped: only root has all of them.
            if exc.errno not in {errno.EPERM, errno.EINVAL}:
                raise
            self.notes.append(f"`{member.name}` can't belong to {owner[0]}:{owner[1]}")


def _times(member: tarfile.TarInfo) -> tuple[int, int]:
    moment = round(member.mtime * 1e9)
    return moment, moment
