"""Images in one tar file: ``oci-archive:``, an image layout, and ``docker-archive:``, what ``docker save`` writes.

The archive is read where it lies; only one that is compressed is unpacked to the stage folder first, for as long as it
is used. Nothing in it becomes a file, so what its names and links look like does not matter.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator

from devenv import errors
from devenv.image import content, files, layer, reference, source, tar
from devenv.util import paths, tree

ENTRY_LIMIT = 100_000
LINK_LIMIT = 8


@contextlib.contextmanager
def opened(where: paths.Paths, path: str, *, what: str) -> Iterator[files.Archive]:
    """For as long as its content is read."""
    with stage(where) as folder:
        try:
            plain = _plain(path, folder)
            found = files.Archive(path, plain, _places(plain))
        except (tar.TarError, layer.LayerError) as exc:
            raise errors.ImageError(f"{what}: `{path}` is no archive of an image: {exc}") from exc
        except OSError as exc:
            raise errors.ImageError(f"{what}: `{path}` can't be read: {exc.strerror}") from exc
        yield found


@contextlib.contextmanager
def stage(where: paths.Paths) -> Iterator[str]:
    """A folder that goes at the end, also when its owner is killed: then the next one removes it."""
    stage = f"{where.data}/stage/archive-{os.urandom(8).hex()}"
    os.makedirs(stage, mode=0o700)
    held = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        _sweep(where)
        yield stage
    finally:
        os.close(held)
        tree.remove(stage)


def is_layout(found: files.Files, transport: reference.Transport | None = None) -> bool:
    """Docker has written both since its version 25; older ones, and podman, write no layout."""
    if transport is None:
        return found.has("oci-layout") and found.has("index.json")
    return transport is reference.Transport.OCI_ARCHIVE or not found.has("manifest.json")


def _sweep(where: paths.Paths) -> None:
    """Archives whose unpacking was killed: nobody locks them."""
    for name in os.listdir(f"{where.data}/stage"):
        if not name.startswith("archive-"):
            continue
        with contextlib.suppress(OSError):
            folder = os.open(f"{where.data}/stage/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                tree.remove(f"{where.data}/stage/{name}")
            finally:
                os.close(folder)


def _plain(path: str, stage: str) -> str:
    """The archive itself, or a copy that is not compressed."""
    with contextlib.closing(source.File(path).open()) as reader:
        if not layer.is_compressed(reader.read(layer.MAGIC_SIZE)):
            return path
    copy = f"{stage}/archive.tar"
    with open(copy, "xb", buffering=0) as file, layer.Stream(content.Layer(source.File(path), layer.ANY)) as stream:
        for chunk in stream.chunks():
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
    return copy


def _places(path: str) -> dict[str, files.Place]:
    """Names in the archive, cleaned, and where their content is. Links among them are followed here."""
    found: dict[str, files.Place] = {}
    links: dict[str, str] = {}
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise layer.LayerError("is not a regular file")
        position = tar.FileSource(fd)
        for number, entry in enumerate(tar.Reader(position)):
            if number > ENTRY_LIMIT:
                raise tar.TarError(f"more than {ENTRY_LIMIT} entries")
            name = os.path.normpath(entry.name.decode("utf-8", "replace")).lstrip("/")
            if entry.kind == tar.FILE:
                found[name] = files.Place(position.position, entry.size)
                links.pop(name, None)
            elif entry.kind in {tar.SYMLINK, tar.LINK}:
                base = os.path.dirname(name) if entry.kind == tar.SYMLINK else ""
                links[name] = os.path.normpath(os.path.join(base, entry.link.decode("utf-8", "replace")))
                found.pop(name, None)
    finally:
        os.close(fd)
    for name in links:
        target, steps = name, 0
        while target in links and steps < LINK_LIMIT:
            target, steps = links[target], steps + 1
        if target in found:
            found.setdefault(name, found[target])
    return found
