"""Images put into the store as pulling them would."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from devenv.image import descriptor, lease
from devenv.image import store as image_store
from devenv.util import paths
from tests import ocilayout


def described(given: Mapping[str, Any]) -> descriptor.Descriptor:
    return descriptor.parse(given, what="x")


def put(
    images: image_store.ImageStore,
    where: paths.Paths,
    folder: pathlib.Path,
    *,
    layers: Sequence[ocilayout.Layer],
    tags: Sequence[str] = (),
    index: bool = False,
    **config: Any,
) -> descriptor.Descriptor:
    """Everything of a new layout in ``folder`` goes into the store; the image's descriptor."""
    writer = ocilayout.Writer(folder)
    given = writer.image(layers, config)
    if index:
        other = ocilayout.Writer(f"{folder}-other").image([{"other": "machine"}], arch="vax")  # which nobody pulls
        platforms = [
            {**given, "platform": {"os": "linux", "architecture": ocilayout.architecture()}},
            {**other, "platform": {"os": "linux", "architecture": "vax"}},
        ]
        given = writer.json({"schemaVersion": 2, "manifests": platforms}, descriptor.OCI_INDEX)
    with lease.Lease(where) as held:
        for path in (folder / "blobs" / "sha256").iterdir():
            data = path.read_bytes()
            wanted = descriptor.Descriptor("application/octet-stream", f"sha256:{path.name}", len(data))
            with images.blobs.ingest(wanted, held=held, what="x") as arriving:
                if not arriving.complete:
                    arriving.write(data)
                    arriving.commit()
        target = described(given)
        images.index.put(target, tags=tags, repositories=[tag.rpartition(":")[0] for tag in tags])
    return target


def blobs_of(folder: pathlib.Path) -> set[str]:
    return {path.name for path in (folder / "blobs" / "sha256").iterdir()}


def manifest_of(images: image_store.ImageStore, target: descriptor.Descriptor) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(images.blobs.read(target, what="x"))
    return found
