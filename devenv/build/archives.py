"""Archives that ADD unpacks, and contexts that come as one: told by their content, and read by devenv's own reader.

An archive is somebody else's wish. A name with `..` is refused; a link among a name's folders is followed as in the
image and never out of it; what is in the way of an entry is removed, as tar does it, except that a folder merges with a
folder. No entry is a whiteout: this is no layer.
"""

from __future__ import annotations

import os
import stat

from devenv import errors
from devenv.build import attributes, finishing, inside, placing
from devenv.image import content, layer, source, tar
from devenv.util import tree

_KINDS = {
    tar.FILE: stat.S_IFREG,
    tar.FOLDER: stat.S_IFDIR,
    tar.SYMLINK: stat.S_IFLNK,
    tar.CHARACTER: stat.S_IFCHR,
    tar.BLOCK_DEVICE: stat.S_IFBLK,
    tar.FIFO: stat.S_IFIFO,
}


def is_archive(file: int) -> bool:
    """Whether an open file is a tar archive, be it compressed. One without an entry is none."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return False
    try:
        with layer.Stream(_layer(source.File(f"/proc/self/fd/{file}"))) as stream:
            return next(iter(tar.Reader(tar.Source(stream.chunks()))), None) is not None
    except (tar.TarError, layer.LayerError, OSError):
        return False


def unpack(
    origin: source.Source, root: int, folder: str, options: finishing.Options, copied: finishing.Copied, *, name: str
) -> list[str]:
    """Into a folder of ``root`` that is there, by its canonical path. Returns the folders that were only implied.

    Raises ``BuildError`` that names the archive.
    """
    extractor = _Extractor(root, folder, options, copied)
    try:
        with layer.Stream(_layer(origin)) as stream:
            extractor.run(tar.Reader(tar.Source(stream.chunks())))
        return extractor.implied
    except (tar.TarError, layer.LayerError) as exc:
        raise errors.BuildError(f"the archive `{name}` can't be unpacked: it {_sentence(str(exc))}") from exc
    except errors.BuildError as exc:
        raise errors.BuildError(f"the archive `{name}` can't be unpacked: {exc}", hint=exc.hint) from exc
    finally:
        extractor.close()


def context(origin: source.Source, folder: str, *, name: str) -> None:
    """A context that comes as an archive, into a folder that is there and empty. Owners don't count in a context."""
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unpack(origin, root, "", finishing.Options(owned=False), finishing.Copied(), name=name)
    finally:
        os.close(root)


def _layer(origin: source.Source) -> content.Layer:
    return content.Layer(origin, layer.ANY)


def _sentence(text: str) -> str:
    """A reader's finding goes on where a layer's name left off; the tar reader's begins anew."""
    return text.removeprefix("it ") if text.startswith(("it ", "is ", "has ", "expands ")) else f"has {text}"


class _Extractor:
    def __init__(self, root: int, folder: str, options: finishing.Options, copied: finishing.Copied) -> None:
        self._root = root
        self._top = folder
        self._options = options
        self._copied = copied
        self._finisher = finishing.Finisher(options, copied)
        self._folders = inside.Folders(root)
        self._stale = False  # the folder that is kept open may not be the one of that name any more
        self._places: dict[tuple[str, ...], str] = {}  # parents as written -> canonical paths, links followed
        self.implied: list[str] = []
        self._later: dict[str, finishing.Look] = {}  # folders get their times last, since filling them changes those

    def close(self) -> None:
        self._folders.close()

    def run(self, reader: tar.Reader) -> None:
        for entry in reader:
            parts = _split(entry.name)
            self._copied.files += 1
            try:
                self._apply(entry, parts, reader)
            except OSError as exc:
                raise errors.BuildError(f"{_shown(entry.name)}: {exc.strerror}") from exc
        self._folders.close()
        for path, look in reversed(self._later.items()):
            if inside.is_folder(self._root, path):
                opened = inside.folder(self._root, path)
                try:
                    moment = self._finisher.moment(look.mtime)
                    os.utime(opened, ns=(moment, moment))
                finally:
                    os.close(opened)

    def _apply(self, entry: tar.Entry, parts: tuple[str, ...], reader: tar.Reader) -> None:
        if not parts:
            if entry.kind != tar.FOLDER:
                raise errors.BuildError(f"{_shown(entry.name)} is no name")
            self._settle_folder(self._top, self._look(entry))
            return
        above = self._place(parts[:-1])
        path = f"{above}/{parts[-1]}" if above else parts[-1]
        if self._stale:
            self._folders.close()
            self._stale = False
        target = finishing.Spot(*self._folders.parent(path))
        look, name = self._look(entry), "/".join(parts)
        if entry.kind == tar.FILE:
            self._file(target, look, name, entry, reader)
        elif entry.kind == tar.FOLDER:
            self._folder(target, look, path)
        elif entry.kind == tar.LINK:
            self._link(target, entry)
        elif entry.kind == tar.SYMLINK:
            self._clear(target, name)
            os.symlink(os.fsdecode(entry.link), target.name, dir_fd=target.folder)
            self._finisher.named(target, look, name)
        else:
            device = os.makedev(entry.major, entry.minor)
            self._finisher.node(target, look, device, name, self._clear)

    def _look(self, entry: tar.Entry) -> finishing.Look:
        attached = [(os.fsdecode(name), value) for name, value in sorted(entry.xattrs.items())]
        kept = [each for each in attached if attributes.is_kept(each[0])]
        owner = self._options.owner or (entry.uid, entry.gid)
        return finishing.Look(_KINDS.get(entry.kind, 0) | entry.mode, owner, entry.mtime_ns, kept)

    def _file(
        self, target: finishing.Spot, look: finishing.Look, name: str, entry: tar.Entry, reader: tar.Reader
    ) -> None:
        file = finishing.created(target, name, self._clear)
        try:
            reader.copy(lambda view: os.write(file, view))
            self._finisher.settle(file, look, name)
        finally:
            os.close(file)
        self._copied.size += entry.size

    def _folder(self, target: finishing.Spot, look: finishing.Look, path: str) -> None:
        try:
            os.mkdir(target.name, 0o700, dir_fd=target.folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(target.name, dir_fd=target.folder).st_mode):
                self._clear(target, path)
                os.mkdir(target.name, 0o700, dir_fd=target.folder)
        self._settle_folder(path, look)

    def _settle_folder(self, path: str, look: finishing.Look) -> None:
        opened = inside.folder(self._root, path)
        try:
            self._finisher.settle(opened, look, path)
        finally:
            os.close(opened)
        self._later.pop(path, None)
        self._later[path] = look

    def _link(self, target: finishing.Spot, entry: tar.Entry) -> None:
        parts = _split(entry.link)
        if not parts:
            raise errors.BuildError(f"{_shown(entry.name)} is a hard link to a folder")
        above = self._place(parts[:-1])
        folder = inside.folder(self._root, above)
        try:
            status = os.lstat(parts[-1], dir_fd=folder)
            if os.path.samestat(os.fstat(folder), os.fstat(target.folder)) and parts[-1] == target.name:
                return
            if stat.S_ISDIR(status.st_mode):
                raise errors.BuildError(f"{_shown(entry.name)} is a hard link to a folder")
            self._clear(target, target.name)
            os.link(parts[-1], target.name, src_dir_fd=folder, dst_dir_fd=target.folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def _place(self, parents: tuple[str, ...]) -> str:
        """The canonical path of a folder of the archive, made if it is missing."""
        found = self._places.get(parents)
        if found is None:
            found = inside.canonical(self._root, "/".join((self._top, *parents)))
            self.implied += placing.make(self._root, found, mode=0o755, owner=self._options.owner)
            self._places[parents] = found
        return found

    def _clear(self, target: finishing.Spot, _: str) -> None:
        """What is in the way of an entry goes. Paths may mean something else from now on."""
        self._places.clear()
        self._stale = True
        try:
            tree.remove_at(target.folder, target.name)
        except FileNotFoundError:
            return


def _split(name: bytes) -> tuple[str, ...]:
    parts = tuple(os.fsdecode(part) for part in name.split(b"/") if part not in {b"", b"."})
    if ".." in parts:
        raise errors.BuildError(f"{_shown(name)} would lead out of where it is unpacked")
    return parts


def _shown(name: bytes) -> str:
    """Safe to print whatever the name holds."""
    return f"`{ascii(name.decode('utf-8', 'backslashreplace'))[1:-1]}`"
