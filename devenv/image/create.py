"""New images from layers: what `import` and `commit` make, and whatever else has a file system to keep.

A layer is written with gzip, level 6 and no time in its header: the same files give the same digest.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import archive, blobs, content, descriptor, layer, lease, source, tar
from devenv.util import paths

CHUNK = 1 << 20
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_LEVEL = 6


class Layer(NamedTuple):
    blob: descriptor.Descriptor
    diff_id: str


class Taker:
    """Puts what is made into the store."""

    def __init__(self, store: blobs.BlobStore, *, held: lease.Lease, what: str) -> None:
        self._blobs = store
        self._held = held
        self.what = what  # is made, in errors

    def file(self, wanted: descriptor.Descriptor, path: str) -> None:
        with self._blobs.ingest(wanted, held=self._held, what=self.what) as each:
            if each.complete:
                return
            with open(path, "rb") as file:
                file.seek(each.offset)
                while data := file.read(CHUNK):
                    each.write(data)
            each.commit()

    def value(self, value: Any, media_type: str) -> descriptor.Descriptor:
        data = json.dumps(value, separators=(",", ":")).encode()
        made = descriptor.Descriptor(media_type, "sha256:" + hashlib.sha256(data).hexdigest(), len(data))
        self._blobs.put(made, data, held=self._held, what=self.what)
        return made


def layer_of(taker: Taker, where: paths.Paths, chunks: Iterable[bytes]) -> Layer:
    """From a tar stream, which is read while it passes by: what is none makes no layer."""
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    squeezer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    with archive.stage(where) as folder:
        path = f"{folder}/layer"
        with open(path, "xb") as file:

            def put(data: bytes) -> None:
                nonlocal size
                packed.update(data)
                size += file.write(data)

            def passing() -> Iterator[bytes]:
                for chunk in chunks:
                    plain.update(chunk)
                    put(squeezer.compress(chunk))
                    yield chunk

            stream = passing()
            for _ in tar.Reader(tar.Source(stream)):
                pass
            for _ in stream:
                pass
            put(squeezer.flush())
        blob = descriptor.Descriptor(LAYER, f"sha256:{packed.hexdigest()}", size)
        taker.file(blob, path)
    return Layer(blob, f"sha256:{plain.hexdigest()}")


def layer_from(taker: Taker, where: paths.Paths, given: source.Source) -> Layer:
    """From a tar file, plain or compressed. Raises ``ImageError`` for anything else."""
    try:
        with layer.Stream(content.Layer(given, layer.ANY)) as stream:
            return layer_of(taker, where, stream.chunks())
    except (tar.TarError, layer.LayerError) as exc:
        raise errors.ImageError(f"{taker.what} is no archive of files: {exc}") from exc


def image(
    taker: Taker,
    base: Mapping[str, Any],
    below: Sequence[descriptor.Descriptor],
    top: Layer,
    step: Mapping[str, Any],
) -> descriptor.Descriptor:
    """``top`` over what ``base``, a whole config, has; ``step`` is what its history says of it."""
    created = now()
    diff_ids = list((base.get("rootfs") or {}).get("diff_ids") or [])
    config = {
        **base,
        "created": created,
        "rootfs": {"type": "layers", "diff_ids": [*diff_ids, top.diff_id]},
        "history": [*(base.get("history") or []), {"created": created, **step}],
    }
    if not step.get("author"):
        config.pop("author", None)
    else:
        config["author"] = step["author"]
    return taker.value(
        {
            "schemaVersion": 2,
            "mediaType": descriptor.OCI_MANIFEST,
            "config": descriptor.to_json(taker.value(config, descriptor.OCI_CONFIG)),
            "layers": [descriptor.to_json(as_oci(each)) for each in (*below, top.blob)],
        },
        descriptor.OCI_MANIFEST,
    )


def as_oci(each: descriptor.Descriptor) -> descriptor.Descriptor:
    """Layers of both worlds are the same bytes; one manifest should not mix their names."""
    names = {
        "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    }
    return descriptor.Descriptor(names.get(each.media_type, each.media_type), each.digest, each.size)


def epoch() -> int | None:
    """SOURCE_DATE_EPOCH, for images that can be made again bit by bit."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdecimal():
        raise errors.UsageError(f"SOURCE_DATE_EPOCH is `{given}`, which is no number of seconds")
    return int(given) if given else None


def now() -> str:
    """That, or else the time it is."""
    fixed = epoch()
    if fixed is not None:
        return datetime.datetime.fromtimestamp(fixed, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S") + "Z"
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
