"""Images from a layout or an archive into the store, as ``docker load`` does it: every image in it, with its tags.

Blobs come over byte by byte. An archive without a layout has no manifests, so one is made of each config and its
layers; the same archive always gives the same one, and the config, which is the image's id, stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from devenv import errors
from devenv.image import (
    archive,
    content,
    descriptor,
    docker_archive,
    files,
    layer,
    lease,
    manifest,
    oci_layout,
    reference,
    source,
)
from devenv.image import store as image_store
from devenv.util import paths

_KINDS = {layer.GZIP: "+gzip", layer.ZSTD: "+zstd"}


class Loaded(NamedTuple):
    target: descriptor.Descriptor
    tags: tuple[str, ...]
    moved: Mapping[str, str]  # tags that were another image's, and its digest


def load(where: paths.Paths, path: str, *, what: str) -> list[Loaded]:
    """``path`` is a folder with a layout, or an archive of either kind, compressed or not."""
    store = image_store.ImageStore(where)
    with lease.Lease(where) as held:
        if os.path.isdir(path):
            return _Loader(store, files.Folder(path), held, what).layout()
        os.makedirs(f"{where.data}/stage", mode=0o700, exist_ok=True)
        with archive.opened(where, path, what=what) as opened:
            loader = _Loader(store, opened, held, what)
            if archive.is_layout(opened) or not opened.has("manifest.json"):
                return loader.layout()
            return loader.docker()


def bring(
    store: image_store.ImageStore,
    where: paths.Paths,
    wanted: reference.Reference,
    path: str,
    *,
    held: lease.Lease,
    machine: str | None = None,
) -> descriptor.Descriptor:
    """The blobs of one image, under a lease alone: what it leads to, which is no image of the store's."""
    what = f"image `{wanted.familiar}`"
    if wanted.transport is reference.Transport.OCI:
        return _Loader(store, files.Folder(path), held, what).from_layout(wanted, machine)
    with archive.opened(where, path, what=what) as opened:
        loader = _Loader(store, opened, held, what)
        if archive.is_layout(opened, wanted.transport):
            return loader.from_layout(wanted, machine)
        return loader.from_archive(wanted.name)


class _Loader:
    def __init__(self, store: image_store.ImageStore, found: files.Files, held: lease.Lease, what: str) -> None:
        self._store = store
        self._files = found
        self._held = held
        self._what = what

    # -- a layout ---------------------------------------------------------------------------------------------

    def layout(self) -> list[Loaded]:
        layout = oci_layout.Layout(self._files, what=self._what)
        targets: dict[str, descriptor.Descriptor] = {}
        names: dict[str, list[str]] = {}
        for entry in layout.entries():
            targets.setdefault(entry.digest, entry)
            names.setdefault(entry.digest, []).extend(filter(None, [oci_layout.full_name(entry)]))
        if not targets:
            raise errors.ImageError(f"{self._what}: there is no image in `{self._files.where}`")
        for target in targets.values():
            self._copy_all(layout, target)
        return [self._keep(target, names[digest]) for digest, target in targets.items()]

    def from_layout(self, wanted: reference.Reference, machine: str | None) -> descriptor.Descriptor:
        layout = oci_layout.Layout(self._files, what=self._what)
        chosen = layout.choose(name=wanted.name, digest=wanted.digest)
        target = manifest.find(chosen, layout.read, what=self._what, machine=machine).target
        self._copy_all(layout, target)
        return target

    def _copy_all(self, layout: oci_layout.Layout, target: descriptor.Descriptor, depth: int = 0) -> None:
        if depth >= manifest.DEPTH_LIMIT:
            raise errors.ImageError(f"{self._what}: indexes are nested more than {manifest.DEPTH_LIMIT} deep")
        if target.media_type not in descriptor.DOCUMENTS:
            raise errors.ImageError(f"{self._what}: `{target.media_type[:100]}` is neither an image nor an index")
        data = layout.read(target)
        if depth == 0 and target.media_type in descriptor.MANIFESTS:
            manifest.parse(data, target, what=self._what)
        is_index = target.media_type in descriptor.INDEXES
        inner = manifest.references(data, target, what=self._what)
        for each in inner:
            if is_index:
                # Of several platforms most often one was saved.
                if layout.has(each):
                    self._copy_all(layout, each, depth + 1)
            else:
                self._copy(layout.source(each), each)
        if is_index and not any(map(layout.has, inner)):
            raise errors.ImageError(f"{self._what}: no image of index {target.digest} is in `{self._files.where}`")
        self._store.blobs.put(target, data, held=self._held, what=self._what)

    # -- what docker save writes ------------------------------------------------------------------------------

    def docker(self) -> list[Loaded]:
        entries = docker_archive.DockerArchive(self._files, what=self._what).entries()
        return [self._keep(self._manifest(entry), entry.tags) for entry in entries]

    def from_archive(self, name: str) -> descriptor.Descriptor:
        return self._manifest(docker_archive.DockerArchive(self._files, what=self._what).choose(name))

    def _manifest(self, entry: docker_archive.Entry) -> descriptor.Descriptor:
        config = self._files.read(entry.config, what=self._what)
        _, diff_ids, _ = content.parse_config(config, what=self._what)
        if len(diff_ids) != len(entry.layers):
            raise errors.ImageError(
                f"{self._what}: its manifest has {len(entry.layers)} layers, its config {len(diff_ids)}"
            )
        layers = [self._layer(name, diff_id) for name, diff_id in zip(entry.layers, diff_ids, strict=True)]
        made = {
            "schemaVersion": 2,
            "mediaType": descriptor.OCI_MANIFEST,
            "config": descriptor.to_json(self._put(config, descriptor.OCI_CONFIG)),
            "layers": [descriptor.to_json(each) for each in layers],
        }
        return self._put(json.dumps(made, separators=(",", ":")).encode(), descriptor.OCI_MANIFEST)

    def _layer(self, name: str, diff_id: str) -> descriptor.Descriptor:
        place = self._files.source(name)
        with contextlib.closing(place.open()) as reader:
            head = reader.read(layer.MAGIC_SIZE)
        kind = next((suffix for magic, suffix in _KINDS.items() if head.startswith(magic)), "")
        # Not compressed it is what the config says, or it is not kept.
        digest = _digest(place) if kind else diff_id
        wanted = descriptor.Descriptor(descriptor.OCI_LAYER + kind, digest, self._files.size(name))
        self._copy(place, wanted)
        return wanted

    # -- both -------------------------------------------------------------------------------------------------

    def _put(self, data: bytes, kind: str) -> descriptor.Descriptor:
        target = descriptor.Descriptor(kind, "sha256:" + hashlib.sha256(data).hexdigest(), len(data))
        self._store.blobs.put(target, data, held=self._held, what=self._what)
        return target

    def _copy(self, place: source.Source, wanted: descriptor.Descriptor) -> None:
        with self._store.blobs.ingest(wanted, held=self._held, what=self._what) as arriving:
            if arriving.complete:
                return
            with contextlib.closing(place.open()) as reader:
                left = arriving.offset
                while data := reader.read(layer.CHUNK):
                    skipped = min(left, len(data))
                    left -= skipped
                    arriving.write(memoryview(data)[skipped:])
            arriving.commit()

    def _keep(self, target: descriptor.Descriptor, tags: list[str] | tuple[str, ...]) -> Loaded:
        found = tuple(dict.fromkeys(tags))
        bare = descriptor.Descriptor(target.media_type, target.digest, target.size)
        return Loaded(bare, found, self._store.index.put(bare, tags=found))


def _digest(place: source.Source) -> str:
    found = hashlib.sha256()
    with contextlib.closing(place.open()) as reader:
        while data := reader.read(layer.CHUNK):
            found.update(data)
    return "sha256:" + found.hexdigest()
