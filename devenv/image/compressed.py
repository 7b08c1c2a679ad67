"""Images as they go over the network: layers that the store keeps plain are compressed, and the manifest says so.

What is in them stays the same, and so does the image's id: it is the digest of the config, which names the plain
streams. The same layer always gives the same bytes, and is compressed once as long as the result is in the store.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

from devenv.image import archive, blobs, content, create, descriptor, lease, manifest
from devenv.util import fs, paths

CHUNK = 1 << 20
_LEVEL = 6


def image(
    where: paths.Paths, store: blobs.BlobStore, target: descriptor.Descriptor, *, held: lease.Lease, what: str
) -> descriptor.Descriptor:
    """The same image, or index, with no plain layer. What is not here is left as it is."""
    return _Maker(where, store, held, what).document(target)


def layer(
    where: paths.Paths, store: blobs.BlobStore, given: descriptor.Descriptor, *, held: lease.Lease
) -> descriptor.Descriptor:
    return _Maker(where, store, held, "a layer").layer(given)


class _Maker:
    def __init__(self, where: paths.Paths, store: blobs.BlobStore, held: lease.Lease, what: str) -> None:
        self._where = where
        self._blobs = store
        self._held = held
        self._what = what

    def document(self, target: descriptor.Descriptor) -> descriptor.Descriptor:
        if not self._blobs.has(target):
            return target
        given = content.parse_json(self._blobs.read(target, what=self._what), what=self._what)
        name = "manifests" if target.media_type in descriptor.INDEXES else "layers"
        inner = manifest.references(json.dumps(given).encode(), target, what=self._what)
        inner = inner if name == "manifests" else inner[1:]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            made = list(threads.map(self.document if name == "manifests" else self.layer, inner))
        if made == inner:
            return target
        entries = [_replaced(entry, each) for entry, each in zip(given[name], made, strict=True)]
        taker = create.Taker(self._blobs, held=self._held, what=self._what)
        return taker.value({**given, name: entries}, target.media_type)

    def layer(self, layer: descriptor.Descriptor) -> descriptor.Descriptor:
        if layer.media_type != descriptor.OCI_LAYER or not self._blobs.has(layer):
            return layer
        record = f"{self._where.data}/build/compressed/{layer.hex}.json"
        known = fs.read_json(record)
        if isinstance(known, dict):
            found = descriptor.parse(known, what=self._what)
            self._held.add(found.digest)
            if self._blobs.has(found):
                return found
        made = self._compress(layer)
        os.makedirs(os.path.dirname(record), mode=0o700, exist_ok=True)
        fs.write_json(record, descriptor.to_json(made))
        return made

    def _compress(self, layer: descriptor.Descriptor) -> descriptor.Descriptor:
        squeezer, digest, size = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31), hashlib.sha256(), 0
        with archive.stage(self._where) as folder:
            path = f"{folder}/layer"
            with open(self._blobs.path(layer), "rb") as plain, open(path, "xb") as file:

                def put(data: bytes) -> None:
                    nonlocal size
                    digest.update(data)
                    size += file.write(data)

                while data := plain.read(CHUNK):
                    put(squeezer.compress(data))
                put(squeezer.flush())
            made = descriptor.Descriptor(create.LAYER, f"sha256:{digest.hexdigest()}", size)
            self._blobs.adopt(made, path, held=self._held)
        return made


def _replaced(entry: Mapping[str, Any], made: descriptor.Descriptor) -> dict[str, Any]:
    return {**entry, **descriptor.to_json(made)}
