"""A layer's tar stream into a folder of its own, in the form that overlayfs mounts.

    .wh.NAME          becomes a character device 0:0 called NAME: nothing below shows there
    .wh..wh..opq      marks its folder opaque: trusted.overlay.opaque, user.overlay.opaque in a user namespace

The folder is private and nobody else changes it meanwhile, but everything in the stream is somebody else's wish. So a
path is never handed to the kernel: its folders are opened one by one with O_NOFOLLOW, a symbolic link among them is
resolved here, inside the layer and what is below it, and ``..`` in a name is refused. What would lead out raises.

A folder that is only implied takes its owner, mode and times from the layers below, and a link down there is followed
as it would be in the running container. What this user namespace can't keep (owners that are not mapped, devices) is
counted in ``notes``.
"""

from __future__ import annotations

import collections
import errno
import functools
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from devenv.image import below, layer, tar
from devenv.util import tree

WHITEOUT = b".wh."
AUFS = b".wh..wh."  # what aufs kept for itself, and old images still hold
OPAQUE = b".wh..wh..opq"

OPENED_LIMIT = 128  # folders kept open
LINK_LIMIT = 40  # MAXSYMLINKS

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NO_NAME = frozenset({b"", b".", b".."})

Parts = tuple[bytes, ...]


class UnpackError(ValueError):
    """The stream asks for something that no good layer does. The message names the entry."""


class _Folder(NamedTuple):
    fd: int
    parts: Parts  # with no link among them


class Unpacker:
    def __init__(self, root: str, lower: below.Below, *, opaque: str, limits: layer.Limits = layer.LIMITS) -> None:
        self._lower = lower
        self._opaque = opaque
        self._limits = limits
        self._root = _Folder(os.open(root, _FOLDER & ~os.O_PATH | os.O_RDONLY), ())
        self._owner = (os.geteuid(), os.getegid())
        self._opened: dict[bytes, _Folder] = {}  # by path as written
        self._last: tuple[bytes | None, _Folder] = (None, self._root)  # as written: most entries ask for it again
        self._as_created: set[int] = set()  # modes that a new file has without a further word
        self._inherits = False  # a folder of the layer has an ACL for what is made in it
        self._whiteouts: set[Parts] = set()
        self._opaque_folders: set[Parts] = set()
        self._times: dict[Parts, int] = {}  # of folders: set last, since filling one changes it
        self.notes: collections.Counter[str] = collections.Counter()
        self.entries = 0
        self.size = 0

    def close(self) -> None:
        self._forget()
        os.close(self._root.fd)

    @property
    def hides_all(self) -> bool:
        """The layer's root is opaque, which overlayfs doesn't look for: what is below must not be mounted."""
        return () in self._opaque_folders

    def run(self, chunks: Iterator[bytes]) -> None:
        """Raises ``UnpackError``, ``TarError``, ``LayerError`` or ``OSError``."""
        self._start()
        reader = tar.Reader(tar.Source(chunks))
        for entry in reader:
            self.entries += 1
            self.size += entry.size
            if self.entries > self._limits.entries:
                raise UnpackError(f"it has more than {self._limits.entries} entries")
            try:
                self._apply(entry, reader)
            except UnpackError as exc:
                raise UnpackError(f"{_shown(entry.name)}: {exc}") from None
            except OSError as exc:
                if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}:
                    raise
                raise UnpackError(f"{_shown(entry.name)}: {exc.strerror}") from exc
        self._finish()

    # -- one entry --------------------------------------------------------------------------------------------

    def _apply(self, entry: tar.Entry, reader: tar.Reader) -> None:
        self._bound()
        parent, _, name = entry.name.rpartition(b"/")
        if parent == self._last[0] and name not in _NO_NAME and WHITEOUT not in name:
            _MAKERS[entry.kind](self, self._last[1], name, entry, reader)
            return
        parts = _split(entry.name)
        if not parts:
            self._top(entry)
            return
        if WHITEOUT in entry.name and self._hides(parts, entry):
            return
        folder = self._folder(parts[:-1])
        # Not of `a/b/`, nor of what has whiteouts in its path, which are told apart above.
        self._last = parent if name == parts[-1] and WHITEOUT not in parent else None, folder
        _MAKERS[entry.kind](self, folder, parts[-1], entry, reader)

    def _hides(self, parts: Parts, entry: tar.Entry) -> bool:
        """Whether the entry says what is hidden, rather than being something itself."""
        name = parts[-1]
        if name == OPAQUE:
            self._mark_opaque(self._folder(parts[:-1]))
            return True
        if any(part.startswith(AUFS) for part in parts):
            return True
        if any(part.startswith(WHITEOUT) for part in parts[:-1]):
            raise UnpackError("it lies in a whiteout")
        if not name.startswith(WHITEOUT):
            return False
        hidden = name[len(WHITEOUT) :]
        if hidden in {b"", b".", b".."} or entry.kind == tar.FOLDER:
            raise UnpackError("it is a whiteout of nothing")
        self._whiteout(self._folder(parts[:-1]), hidden)
        return True

    def _start(self) -> None:
        """The root looks as it did below until the stream says otherwise."""
        found = self._lower.find(())
        if found is not None and stat.S_ISDIR(found.status.st_mode):
            self._like(self._root.fd, found.status)
            self._times[()] = found.status.st_mtime_ns
        else:
            os.fchmod(self._root.fd, 0o755)

    def _top(self, entry: tar.Entry) -> None:
        if entry.kind != tar.FOLDER:
            raise UnpackError("the root of a layer is no folder")
        self._set_owner(b".", self._root, entry)
        self._set_xattrs(f"/proc/self/fd/{self._root.fd}/.", entry)
        os.fchmod(self._root.fd, entry.mode)
        self._times[()] = entry.mtime_ns

    def _make_file(self, folder: _Folder, name: bytes, entry: tar.Entry, reader: tar.Reader) -> None:
        mode = entry.mode
        try:
            fd = os.open(name, _NEW_FILE, mode & 0o777, dir_fd=folder.fd)
        except FileExistsError:
            self._clear(folder, name)
            fd = os.open(name, _NEW_FILE, mode & 0o777, dir_fd=folder.fd)
        try:
            if entry.size:
                reader.copy(functools.partial(os.write, fd))
            if (entry.uid, entry.gid) != self._owner:
                try:
                    os.fchown(fd, entry.uid, entry.gid)
                except OSError as exc:
                    self._note_owner(exc)
                    mode &= 0o1777  # a setuid file must not be somebody else's
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            if entry.xattrs or mode not in self._as_created:
                self._set_mode(fd, mode, alone=not entry.xattrs)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _set_mode(self, fd: int, mode: int, *, alone: bool) -> None:
        if alone and mode <= 0o777 and not self._inherits and stat.S_IMODE(os.fstat(fd).st_mode) == mode:
            self._as_created.add(mode)  # neither umask(2) nor an ACL takes anything from it
            return
        # After chown(2), which drops the setuid bits.
        os.fchmod(fd, mode)

    def _make_folder(self, folder: _Folder, name: bytes, entry: tar.Entry, _: tar.Reader) -> None:
        parts = (*folder.parts, name)
        hides = parts in self._whiteouts
        try:
            os.mkdir(name, 0o700, dir_fd=folder.fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=folder.fd).st_mode):
                self._clear(folder, name)
                os.mkdir(name, 0o700, dir_fd=folder.fd)
        owned = self._set_owner(name, folder, entry)
        if entry.xattrs:
            self._set_xattrs(_by_descriptor(folder, name), entry)
        os.chmod(name, entry.mode if owned else entry.mode & 0o1777, dir_fd=folder.fd)
        self._times[parts] = entry.mtime_ns
        if hides:
            self._set_opaque(_by_descriptor(folder, name), parts)

    def _make_symlink(self, folder: _Folder, name: bytes, entry: tar.Entry, _: tar.Reader) -> None:
        try:
            os.symlink(entry.link, name, dir_fd=folder.fd)
        except FileExistsError:
            self._clear(folder, name)
            os.symlink(entry.link, name, dir_fd=folder.fd)
        self._set_owner(name, folder, entry)
        if entry.xattrs:
            self._set_xattrs(_by_descriptor(folder, name), entry)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder.fd, follow_symlinks=False)

    def _make_node(self, folder: _Folder, name: bytes, entry: tar.Entry, _: tar.Reader) -> None:
        kinds = {tar.FIFO: stat.S_IFIFO, tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK}
        kind = kinds[entry.kind]
        device = 0 if kind == stat.S_IFIFO else os.makedev(entry.major, entry.minor)
        if kind == stat.S_IFCHR and device == 0:
            self._whiteout(folder, name)
            self.notes["a character device 0:0 can't be in an image: the name is left empty"] += 1
            return
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=folder.fd)
        except FileExistsError:
            self._clear(folder, name)
            os.mknod(name, kind | 0o600, device, dir_fd=folder.fd)
        except PermissionError:
            # mknod(2): devices belong to the initial user namespace. A container gets its own /dev.
            self.notes["device nodes are left out: they can't be made without root"] += 1
            return
        self._set_owner(name, folder, entry)
        if entry.xattrs:
            self._set_xattrs(_by_descriptor(folder, name), entry)
        os.chmod(name, entry.mode, dir_fd=folder.fd)  # not a link: it was made above
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder.fd, follow_symlinks=False)

    def _make_link(self, folder: _Folder, name: bytes, entry: tar.Entry, _: tar.Reader) -> None:
        target = _split(entry.link)
        if not target:
            raise UnpackError("a hard link to a folder")
        source = self._folder(target[:-1])
        wanted = (*source.parts, target[-1])
        if wanted == (*folder.parts, name):
            raise UnpackError("a hard link to itself")
        if wanted in self._whiteouts:
            raise UnpackError("a hard link to what the layer removes")
        try:
            status = os.lstat(target[-1], dir_fd=source.fd)
        except FileNotFoundError:
            status = self._copy_up(source, target[-1])
        if stat.S_ISDIR(status.st_mode):
            raise UnpackError("a hard link to a folder")
        try:
            os.link(target[-1], name, src_dir_fd=source.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
        except FileExistsError:
            self._clear(folder, name)
            source = self._folder(target[:-1])  # clearing closed it
            os.link(target[-1], name, src_dir_fd=source.fd, dst_dir_fd=folder.fd, follow_symlinks=False)

    def _copy_up(self, folder: _Folder, name: bytes) -> os.stat_result:
        """A hard link to a file of a lower layer needs that file in this one, as overlayfs would do it."""
        found = self._lower.find((*folder.parts, name))
        if found is None or not stat.S_ISREG(found.status.st_mode):
            raise UnpackError("a hard link to a file that isn't there")
        with open(found.path, "rb") as source:
            target = os.open(name, _NEW_FILE, 0o600, dir_fd=folder.fd)
            try:
                while data := source.read(layer.CHUNK):
                    os.write(target, data)
                self._like(target, found.status)
                for attribute in os.listxattr(source.fileno()):
                    os.setxattr(target, attribute, os.getxattr(source.fileno(), attribute))
                os.utime(target, ns=(found.status.st_mtime_ns, found.status.st_mtime_ns))
            finally:
                os.close(target)
        return os.lstat(name, dir_fd=folder.fd)

    # -- whiteouts --------------------------------------------------------------------------------------------

    def _whiteout(self, folder: _Folder, name: bytes) -> None:
        """It hides what is below, never what this layer brings, in whichever order they come."""
        parts = (*folder.parts, name)
        if self._lower.find(parts) is None:
            return
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=folder.fd)
            self._whiteouts.add(parts)
        except FileExistsError:
            if parts not in self._whiteouts and stat.S_ISDIR(os.lstat(name, dir_fd=folder.fd).st_mode):
                self._set_opaque(_by_descriptor(folder, name), parts)
        except PermissionError as exc:
            # An overlay keeps 0:0 for itself; all other filesystems let everybody make one since Linux 5.8.
            raise UnpackError(
                "what a lower layer has can't be hidden where the data folder lies: set DEVENV_DATA_HOME to a folder on"
                " ext4, xfs, btrfs or tmpfs"
            ) from exc

    def _mark_opaque(self, folder: _Folder) -> None:
        self._set_opaque(f"/proc/self/fd/{folder.fd}/.", folder.parts)

    def _set_opaque(self, path: bytes | str, parts: Parts) -> None:
        if parts:
            os.setxattr(path, self._opaque, b"y", follow_symlinks=False)
        self._opaque_folders.add(parts)

    def _finish(self) -> None:
        """Whiteouts in what is opaque would show: overlayfs doesn't look for any where nothing is merged."""
        for parts in self._whiteouts:
            if any(parts[:length] in self._opaque_folders for length in range(len(parts))):
                self._bound()
                os.unlink(parts[-1], dir_fd=self._folder(parts[:-1]).fd)
        for parts, mtime in sorted(self._times.items(), reverse=True):
            self._bound()
            fd = self._folder(parts).fd
            os.utime(f"/proc/self/fd/{fd}/.", ns=(mtime, mtime))

    # -- folders ----------------------------------------------------------------------------------------------

    def _folder(self, parts: Parts) -> _Folder:
        if not parts:
            return self._root
        path = b"/".join(parts)
        found = self._opened.get(path)
        if found is None:
            found = self._walk(parts)
            self._opened[path] = found
        return found

    def _walk(self, parts: Parts) -> _Folder:
        """Open ``parts``, making what is missing; links lead nowhere but to inside."""
        pending = list(reversed(parts))
        current, links = self._root, 0
        # Most often its parent is open, or was.
        for length in range(len(parts) - 1, 0, -1):
            if found := self._opened.get(b"/".join(parts[:length])):
                current, pending = found, list(reversed(parts[length:]))
                break
        fd = os.dup(current.fd)
        try:
            done = current.parts
            while pending:
                part = pending.pop()
                if part == b"..":
                    done = done[:-1]
                    fd = self._reopen(fd, done)
                    continue
                try:
                    child = os.open(part, _FOLDER, dir_fd=fd)
                except OSError as exc:
                    link = self._obstacle(_Folder(fd, done), part, exc)
                    if link is None:
                        child = os.open(part, _FOLDER, dir_fd=fd)
                    else:
                        links += 1
                        if links > LINK_LIMIT:
                            raise UnpackError("too many symbolic links on its way") from None
                        pending += [step for step in reversed(link.split(b"/")) if step not in {b"", b"."}]
                        if link.startswith(b"/"):
                            done = ()
                            fd = self._reopen(fd, done)
                        continue
                os.close(fd)
                fd, done = child, (*done, part)
            return _Folder(fd, done)
        except BaseException:
            os.close(fd)
            raise

    def _reopen(self, fd: int, parts: Parts) -> int:
        """From the root again, through folders that are known to be none but folders."""
        found = os.dup(self._root.fd)
        for part in parts:
            child = os.open(part, _FOLDER, dir_fd=found)
            os.close(found)
            found = child
        os.close(fd)
        return found

    def _obstacle(self, folder: _Folder, part: bytes, error: OSError) -> bytes | None:
        """What to do about a component that can't be opened: the link it is, or None when a folder was made of it."""
        if error.errno == errno.ENOENT:
            found = self._lower.find((*folder.parts, part))
            if found is not None and stat.S_ISLNK(found.status.st_mode):
                return os.readlink(found.path)
            self._imply(folder, part, found)
            return None
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise error
        status = os.lstat(part, dir_fd=folder.fd)
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(part, dir_fd=folder.fd)
        parts = (*folder.parts, part)
        if parts in self._whiteouts:
            # The folder below is gone, and this layer has a new one.
            os.unlink(part, dir_fd=folder.fd)
            self._whiteouts.discard(parts)
            self._imply(folder, part, None)
            self._set_opaque(_by_descriptor(folder, part), parts)
            return None
        raise UnpackError(f"{_shown(b'/'.join(parts))} is no folder")

    def _imply(self, folder: _Folder, part: bytes, found: below.Found | None) -> None:
        os.mkdir(part, 0o755, dir_fd=folder.fd)
        if found is not None and stat.S_ISDIR(found.status.st_mode):
            fd = os.open(part, _FOLDER & ~os.O_PATH | os.O_RDONLY, dir_fd=folder.fd)
            try:
                self._like(fd, found.status)
            finally:
                os.close(fd)
            self._times[(*folder.parts, part)] = found.status.st_mtime_ns
        else:
            os.chmod(part, 0o755, dir_fd=folder.fd)

    def _clear(self, folder: _Folder, name: bytes) -> None:
        """A later entry takes the name of an earlier one."""
        parts = (*folder.parts, name)
        if parts in self._whiteouts:
            os.unlink(name, dir_fd=folder.fd)
            self._whiteouts.discard(parts)
            return
        kind = stat.S_IFMT(os.lstat(name, dir_fd=folder.fd).st_mode)
        if kind in {stat.S_IFDIR, stat.S_IFLNK}:
            self._forget(keep=folder)
            length = len(parts)
            self._times = {key: value for key, value in self._times.items() if key[:length] != parts}
            self._whiteouts = {key for key in self._whiteouts if key[:length] != parts}
            self._opaque_folders = {key for key in self._opaque_folders if key[:length] != parts}
        tree.remove_at(folder.fd, name)

    def _bound(self) -> None:
        """Between two steps: shells grant a process 1024 descriptors, and other layers are unpacked beside this one."""
        if len(self._opened) >= OPENED_LIMIT:
            self._forget()

    def _forget(self, keep: _Folder | None = None) -> None:
        """Close folders, whose paths may mean something else from now on."""
        kept = {}
        for folder in self._opened.values():
            if keep is not None and folder.fd == keep.fd:
                kept[b"/".join(keep.parts)] = folder
            else:
                os.close(folder.fd)
        self._opened = kept
        self._last = (None, self._root)

    # -- owners and attributes --------------------------------------------------------------------------------

    def _set_owner(self, name: bytes, folder: _Folder, entry: tar.Entry) -> bool:
        try:
            if (entry.uid, entry.gid) != self._owner:
                os.chown(name, entry.uid, entry.gid, dir_fd=folder.fd, follow_symlinks=False)
            elif name == b".":
                os.chown(name, entry.uid, entry.gid, dir_fd=folder.fd)
        except OSError as exc:
            self._note_owner(exc)
            return False
        return True

    def _note_owner(self, error: OSError) -> None:
        # EINVAL: the id is not mapped in this user namespace, see user_namespaces(7).
        if error.errno not in {errno.EINVAL, errno.EPERM}:
            raise error
        self.notes["owners could not be kept: their user or group is not mapped here"] += 1

    def _like(self, fd: int, status: os.stat_result) -> None:
        try:
            os.fchown(fd, status.st_uid, status.st_gid)
        except OSError as exc:
            self._note_owner(exc)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))

    def _set_xattrs(self, target: int | bytes | str, entry: tar.Entry) -> None:
        for name, value in entry.xattrs.items():
            if not is_kept(name):
                continue
            if name == b"system.posix_acl_default":
                self._inherits = True
                self._as_created.clear()
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, value)
                else:
                    os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as exc:
                if exc.errno not in {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL}:
                    raise
                self.notes[f"attributes {_shown(name)} could not be kept"] += 1


_MAKERS = {
    tar.FILE: Unpacker._make_file,
    tar.FOLDER: Unpacker._make_folder,
    tar.SYMLINK: Unpacker._make_symlink,
    tar.LINK: Unpacker._make_link,
    tar.FIFO: Unpacker._make_node,
    tar.CHARACTER: Unpacker._make_node,
    tar.BLOCK_DEVICE: Unpacker._make_node,
}


def _split(name: bytes) -> Parts:
    parts = name.split(b"/")
    if b"" in parts or b"." in parts:
        parts = [part for part in parts if part not in {b"", b"."}]
    if b".." in parts:
        raise UnpackError("it leads out of the layer")
    return tuple(parts)


def _by_descriptor(folder: _Folder, name: bytes) -> bytes:
    """setxattr(2) takes no folder's descriptor; the name is never followed."""
    return b"/proc/self/fd/%d/%s" % (folder.fd, name)


def is_kept(name: bytes) -> bool:
    """Never overlayfs's own, which redirect to other files. Labels of a security module belong to the machine."""
    if name.startswith((b"user.overlay.", b"trusted.")):
        return False
    return name == b"security.capability" or name.startswith((b"user.", b"system.posix_acl_"))


def _shown(name: bytes) -> str:
    """Safe to print whatever the name holds."""
    return f"`{ascii(name.decode('utf-8', 'backslashreplace'))[1:-1]}`"
