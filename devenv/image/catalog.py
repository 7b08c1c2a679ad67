"""What images the store has, for people: found by name, id or digest, with their configs, sizes and ages.

An image is shown as it is for this machine; of one for others alone, the first platform that is here.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import blobs, content, descriptor, gc, manifest, names, reference, snapshot
from devenv.image import store as image_store
from devenv.util import paths

SHORTEST_ID = 4  # digits; fewer are taken for a name


class Entry(NamedTuple):
    stored: names.Stored
    target: descriptor.Descriptor  # of the manifest
    manifest: manifest.Manifest
    config: Mapping[str, Any]  # the whole, as it is in the blob

    @property
    def id(self) -> str:
        """What containers remember, and Docker calls the image's id: the digest of the config."""
        return self.manifest.config.digest

    @property
    def created(self) -> float:
        """0 where the config doesn't say."""
        return moment(self.config.get("created"))

    @property
    def labels(self) -> Mapping[str, str]:
        found = (self.config.get("config") or {}).get("Labels") or {}
        return {str(name): str(value) for name, value in found.items()}

    @property
    def tags(self) -> list[str]:
        """As people write them."""
        return [reference.parse(tag).familiar for tag in self.stored.tags]

    @property
    def digests(self) -> list[str]:
        every = [reference.parse(f"{name}@{self.stored.target.digest}") for name in self.stored.repositories]
        return [each.familiar for each in every]

    @property
    def chain_ids(self) -> list[str]:
        _, diff_ids, _ = content.parse_config_value(self.config, what=self.id)
        return snapshot.chain(diff_ids)


class Catalog:
    def __init__(self, where: paths.Paths, store: image_store.ImageStore) -> None:
        self._where = where
        self._store = store

    def entries(self) -> list[Entry]:
        """The newest first. One whose blobs are lost is left out."""
        found = [entry for stored in self._store.index.images() if (entry := self.entry(stored))]
        return sorted(found, key=lambda each: (-each.created, -each.stored.added, each.stored.target.digest))

    def entry(self, stored: names.Stored) -> Entry | None:
        for machine in (None, *self.machines(stored)):
            try:
                found = manifest.find([stored.target], self._read, what="", machine=machine)
                data = self._read(found.manifest.config)
            except errors.ImageError:
                continue
            return Entry(stored, found.target, found.manifest, content.parse_json(data, what=""))
        return None

    def machines(self, stored: names.Stored) -> list[str]:
        """The platforms of an index that are here, as uname(2) calls them."""
        from devenv.image import platform

        found = []
        if stored.target.media_type in descriptor.INDEXES and self._store.blobs.has(stored.target):
            for each in manifest.parse_index(self._read(stored.target), stored.target, what=""):
                if each.platform and each.platform.os == "linux" and self._store.blobs.has(each):
                    found.append(platform.machine(str(each.platform)))
        return found

    def find(self, text: str) -> Entry:
        """By name, by id or the beginning of one, or by digest. Raises ``ImageError``."""
        found = self.matching(text)
        if len(found) > 1:
            raise errors.ImageError(f"`{text}` is the beginning of {len(found)} ids", hint="write more of it")
        if not found:
            raise errors.ImageError(
                f"image `{text}` is not here",
                hint="`devenv image ls` lists those that are, `devenv image pull` gets one",
            )
        return found[0]

    def matching(self, text: str) -> list[Entry]:
        by_id = [each for each in self.entries() if _has_id(each, text)]
        exact = [each for each in by_id if text.removeprefix("sha256:") in _ids(each)]
        if exact or _is_only_id(text):
            return exact or by_id
        try:
            stored = self._store.index.find(reference.parse(text))
        except errors.ImageError:
            if not by_id:
                raise
            return by_id
        entry = self.entry(stored) if stored else None
        return [entry] if entry else by_id

    def size(self, entry: Entry) -> int:
        """In bytes, of what it takes on the disk: its blobs, and its layers where they are unpacked."""
        reached = gc.reach(self._where, entry.stored.target)
        return sum(blob_sizes(self._store.blobs, reached.blobs).values()) + sum(
            layer_sizes(self._where, reached.layers).values()
        )

    def read(self, target: descriptor.Descriptor) -> bytes:
        return self._read(target)

    def _read(self, target: descriptor.Descriptor) -> bytes:
        return self._store.blobs.read(target._replace(platform=None), what="")


def blob_sizes(store: blobs.BlobStore, hexes: Iterable[str]) -> dict[str, int]:
    return _sizes(hexes, store.size)


def layer_sizes(where: paths.Paths, chain_ids: Iterable[str]) -> dict[str, int]:
    return _sizes(chain_ids, lambda name: snapshot.size(f"{where.data}/layers/{name}"))


def _sizes(keys: Iterable[str], size: Callable[[str], int]) -> dict[str, int]:
    return {key: size(key) for key in keys}


def moment(given: Any) -> float:
    """RFC 3339 as configs have it, with any number of decimals; 0 for what isn't."""
    try:
        value = datetime.datetime.fromisoformat(str(given))
    except ValueError:
        return 0.0
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return max(value.timestamp(), 0.0)


def _ids(entry: Entry) -> set[str]:
    return {entry.manifest.config.hex, entry.target.hex, entry.stored.target.hex}


def _has_id(entry: Entry, text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return len(digits) >= SHORTEST_ID and any(each.startswith(digits) for each in _ids(entry))


def _is_only_id(text: str) -> bool:
    return text.startswith("sha256:") or descriptor.is_digest(f"sha256:{text}")
