"""Images in one tar file: ``oci-archive:``, an image layout, and ``docker-archive:``, what ``docker save`` writes.

The archive is laid out in the stage folder while its layers are unpacked from there, and removed afterwards. Only plain
files with harmless names are taken from it; links among them are remembered, not made.

    manifest.json     [{"Config": "<file>", "RepoTags": ["redis:7"], "Layers": ["<file>", …]}]
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Any

from devenv import errors
from devenv.image import content, layer, oci_layout, reference, source, tar
from devenv.image import descriptor as descriptor_module
from devenv.util import paths, tree

ENTRY_LIMIT = 20_000
LINK_LIMIT = 8


class DockerArchive:
    """The archive's files, at ``files[name]`` on the disk."""

    def __init__(self, files: dict[str, str], *, what: str) -> None:
        self._files = files
        self._what = what

    def find(self, *, name: str = "", digest: str = "") -> content.Content:
        if digest:
            raise errors.ImageError(f"{self._what}: a docker archive has no digests to choose by")
        entry = self._select(name)
        config, layers = entry.get("Config"), entry.get("Layers") or []
        if not isinstance(config, str) or not isinstance(layers, list):
            raise errors.ImageError(f"{self._what}: its manifest.json is broken")
        data = content.read_file(self._path(config), what=self._what)
        return content.assemble(
            data, [content.Layer(source.File(self._path(each)), "") for each in layers], what=self._what
        )

    def _path(self, name: Any) -> str:
        if not isinstance(name, str) or name not in self._files:
            raise errors.ImageError(f"{self._what}: {name!r} is not in the archive")
        return self._files[name]

    def _select(self, name: str) -> dict[str, Any]:
        data = content.read_file(self._path("manifest.json"), what=self._what)
        value = content.load_json(data, what=f"{self._what}: manifest.json")
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise errors.ImageError(f"{self._what}: its manifest.json is not a list")
        if name:
            wanted = str(reference.parse(name))
            found = [entry for entry in value if wanted in _names(entry)]
        else:
            found = value
        if len(found) != 1:
            offered = sorted({each for entry in value for each in entry.get("RepoTags") or []})
            raise errors.ImageError(
                f"{self._what}: " + (f"`{name}` is not in it" if name else f"it holds {len(value)} images"),
                hint="it has " + ", ".join(f"`{each}`" for each in offered[:20]),
            )
        chosen: dict[str, Any] = found[0]
        return chosen


def _names(entry: dict[str, Any]) -> set[str]:
    found = set()
    for tag in entry.get("RepoTags") or []:
        with contextlib.suppress(errors.ImageError):
            found.add(str(reference.parse(str(tag))))
    return found


@contextlib.contextmanager
def opened(
    where: paths.Paths, path: str, transport: reference.Transport, *, what: str
) -> Iterator[oci_layout.Layout | DockerArchive]:
    stage = f"{where.data}/stage/archive-{os.urandom(8).hex()}"
    os.makedirs(stage, mode=0o700)
    held = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        _sweep(where)
        files = _extract(path, stage, what=what)
        if transport is reference.Transport.OCI_ARCHIVE or "manifest.json" not in files:
            yield oci_layout.Layout(stage, what=what)
        else:
            yield DockerArchive(files, what=what)
    finally:
        os.close(held)
        tree.remove(stage)


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


def _extract(path: str, stage: str, *, what: str) -> dict[str, str]:
    """Names in the archive -> files in ``stage``. Blobs keep their place, all else is numbered."""
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    os.makedirs(f"{stage}/blobs/sha256")
    try:
        with layer.Stream(content.Layer(source.File(path), layer.ANY)) as stream:
            reader = tar.Reader(stream.chunks())
            for number, entry in enumerate(reader):
                if number > ENTRY_LIMIT:
                    raise tar.TarError(f"more than {ENTRY_LIMIT} entries")
                name = os.path.normpath(entry.name.decode("utf-8", "replace"))
                if entry.kind == tar.FILE:
                    target = f"{stage}/{name}" if _is_layout(name) else f"{stage}/{number}"
                    _write(target, reader)
                    files[name] = target
                elif entry.kind in {tar.SYMLINK, tar.LINK}:
                    base = os.path.dirname(name) if entry.kind == tar.SYMLINK else ""
                    links[name] = os.path.normpath(os.path.join(base, entry.link.decode("utf-8", "replace")))
    except (tar.TarError, layer.LayerError) as exc:
        raise errors.ImageError(f"{what}: `{path}` is no archive of an image: {exc}") from exc
    except OSError as exc:
        raise errors.ImageError(f"{what}: `{path}` can't be read: {exc.strerror}") from exc
    for name in links:
        target, steps = name, 0
        while target in links and steps < LINK_LIMIT:
            target, steps = links[target], steps + 1
        if target in files:
            files.setdefault(name, files[target])
    return files


def _is_layout(name: str) -> bool:
    if name in {"oci-layout", "index.json"}:
        return True
    folder, _, digest = name.rpartition("/")
    try:
        descriptor_module.check_digest(f"sha256:{digest}", what="")
    except errors.ImageError:
        return False
    return folder == "blobs/sha256"


def _write(path: str, reader: tar.Reader) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        reader.copy(lambda view: os.write(fd, view))
    finally:
        os.close(fd)
