"""``names.json``: which images there are and what they are called, for people to read and for the day the database is
lost. If that file is lost, too, the manifests among the blobs still tell which images there are, if not their names.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import blobs, content, descriptor, manifest
from devenv.util import fs, paths

VERSION = 1


class Stored(NamedTuple):
    """An image that the store keeps."""

    target: descriptor.Descriptor  # a manifest or an index
    tags: tuple[str, ...]  # docker.io/library/redis:7
    repositories: tuple[str, ...]  # docker.io/library/redis: where this digest came from or was pushed to
    added: float


def path(where: paths.Paths) -> str:
    return f"{where.data}/names.json"


def to_json(images: Iterable[Stored]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "images": [
            {
                "digest": image.target.digest,
                "mediaType": image.target.media_type,
                "size": image.target.size,
                "tags": image.tags,
                "repositories": image.repositories,
                "added": image.added,
            }
            for image in images
        ],
    }


def find(where: paths.Paths) -> list[Stored]:
    """What the file says, or else what the blobs say."""
    given = fs.read_json(path(where))
    try:
        return [_parse(entry) for entry in given["images"]]
    except (TypeError, KeyError, ValueError, errors.ImageError):
        return _from_blobs(where)


def _parse(entry: Any) -> Stored:
    target = descriptor.parse(entry, what="names.json")
    return Stored(target, _strings(entry["tags"]), _strings(entry["repositories"]), float(entry["added"]))


def _strings(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ValueError
    return tuple(given)


def _from_blobs(where: paths.Paths) -> list[Stored]:
    """Every manifest and index that no index among them leads to."""
    store = blobs.BlobStore(where)
    found: dict[str, Stored] = {}
    inner: set[str] = set()
    for target, status in _documents(store):
        with contextlib.suppress(errors.ImageError):
            data = store.read(target, what="")
            if target.media_type in descriptor.INDEXES:
                inner |= {each.digest for each in manifest.parse_index(data, target, what="")}
            else:
                manifest.parse(data, target, what="")
            found[target.digest] = Stored(target, (), (), status.st_mtime)
    return [image for digest, image in found.items() if digest not in inner]


def _documents(store: blobs.BlobStore) -> Iterable[tuple[descriptor.Descriptor, os.stat_result]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(store.folder) as entries:
        for entry in entries:
            status = entry.stat()
            if status.st_size > descriptor.JSON_LIMIT:
                continue
            with contextlib.suppress(errors.ImageError):
                data = content.read_file(entry.path, what="")
                if data[:1] != b"{":
                    continue
                given = content.parse_json(data, what="")
                kind = given.get("mediaType")
                if kind is None:  # the OCI's may leave it out
                    kind = descriptor.OCI_INDEX if "manifests" in given else descriptor.OCI_MANIFEST
                if kind in descriptor.DOCUMENTS:
                    yield descriptor.Descriptor(kind, f"sha256:{entry.name}", len(data)), status
