"""Images out of the store: into one archive that ``docker load``, ``podman load``, skopeo and devenv read, or a layout.

    blobs/sha256/<hex>    every blob as it is in the store
    index.json            the images with their names, one entry a name
    manifest.json         the same as Docker before its version 25, and podman, understand it
    oci-layout

The archive depends on nothing but the images: sorted names, no times, no owners. So equal images give equal archives.
"""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import blobs, descriptor, layer, manifest, reference
from devenv.util import fs, paths

Write = Callable[[bytes], object]


class Wanted(NamedTuple):
    target: descriptor.Descriptor
    tags: Sequence[str] = ()  # docker.io/library/redis:7


def write_archive(where: paths.Paths, images: Sequence[Wanted], write: Write) -> None:
    """``write`` takes all that it is given, as that of a buffered file does."""
    for name, data in sorted(_Collector(where).files(images).items()):
        if data is None:
            write(_header(name, tarfile.DIRTYPE, 0))
            continue
        size = os.stat(data).st_size if isinstance(data, str) else len(data)
        write(_header(name, tarfile.REGTYPE, size))
        for chunk in _chunks(data):
            write(chunk)
        write(b"\0" * (-size % tarfile.BLOCKSIZE))
    write(b"\0" * (2 * tarfile.BLOCKSIZE))


def write_layout(where: paths.Paths, images: Sequence[Wanted], folder: str) -> None:
    """Into an empty or a new folder. ``index.json`` comes last: before that it is no layout."""
    files = _Collector(where).files(images)
    for name, data in sorted(files.items(), key=lambda item: (item[0] in {"index.json", "manifest.json"}, item[0])):
        if data is None:
            os.makedirs(f"{folder}/{name}", exist_ok=True)
        elif isinstance(data, bytes):
            fs.write_whole(f"{folder}/{name}", data, mode=0o644)
        else:
            with open(f"{folder}/{name}", "wb") as file:
                for chunk in _chunks(data):
                    file.write(chunk)


class _Collector:
    def __init__(self, where: paths.Paths) -> None:
        self._store = blobs.BlobStore(where)

    def files(self, images: Sequence[Wanted]) -> dict[str, bytes | str | None]:
        """Name -> content, the path of a file with it, or None for a folder."""
        found: dict[str, bytes | str | None] = {"blobs/": None, "blobs/sha256/": None}
        index: list[dict[str, Any]] = []
        docker: list[dict[str, Any]] = []
        for image in images:
            for each in self._reached(image.target):
                found[_blob(each)] = self._store.path(each)
            index += _entries(image)
            docker += self._docker(image)
        found["index.json"] = _json({"schemaVersion": 2, "mediaType": descriptor.OCI_INDEX, "manifests": index})
        found["manifest.json"] = _json(docker)
        found["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
        return found

    def _reached(self, target: descriptor.Descriptor) -> Iterator[descriptor.Descriptor]:
        """All blobs of an image. Of an index, those of the platforms that are here; of a manifest, every one."""
        what = f"image {target.digest}"
        yield target
        is_index = target.media_type in descriptor.INDEXES
        for each in manifest.references(self._store.read(target, what=what), target, what=what):
            if not self._store.has(each):
                if is_index:
                    continue
                raise errors.ImageError(f"{what}: its blob {each.digest} is missing", hint="pull the image again")
            if each.media_type in descriptor.DOCUMENTS:
                yield from self._reached(each)
            else:
                yield each

    def _docker(self, image: Wanted) -> list[dict[str, Any]]:
        """Docker's list has one platform: this machine's, or the only one."""
        what = f"image {image.target.digest}"

        def read(each: descriptor.Descriptor) -> bytes:
            if not self._store.has(each):
                raise manifest.NoPlatform(f"{what}: {each.digest} was not pulled")
            return self._store.read(each, what=what)

        try:
            found = manifest.find([image.target._replace(platform=None)], read, what=what).manifest
        except manifest.NoPlatform:
            return []
        tags = [reference.parse(tag).familiar for tag in image.tags]
        return [{"Config": _blob(found.config), "RepoTags": tags, "Layers": [_blob(each) for each in found.layers]}]


def _entries(image: Wanted) -> list[dict[str, Any]]:
    plain = descriptor.to_json(image.target)
    named = []
    for tag in image.tags:
        names = {descriptor.FULL_NAME_ANNOTATION: tag, descriptor.NAME_ANNOTATION: reference.parse(tag).tag}
        named.append({**plain, "annotations": names})
    return named or [plain]


def _blob(wanted: descriptor.Descriptor) -> str:
    return f"blobs/sha256/{wanted.hex}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _header(name: str, kind: bytes, size: int) -> bytes:
    entry = tarfile.TarInfo(name.rstrip("/"))
    entry.type = kind
    entry.size = size
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)


def _chunks(data: bytes | str) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with contextlib.closing(open(data, "rb", buffering=0)) as file:
        while chunk := file.read(layer.CHUNK):
            yield chunk
