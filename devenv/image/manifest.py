"""Manifests and indexes, read with suspicion: from wherever they come, one that could be read as two things is refused
(CVE-2021-41190), and so is one that calls itself something else than the descriptor that led to it.

    index ─▶ (index ─▶ …) manifest for a platform ─▶ config and layers
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import content, descriptor, platform, source

DEPTH_LIMIT = 4  # of indexes in indexes
ENTRY_LIMIT = 10_000

Read = Callable[[descriptor.Descriptor], bytes]  # verified


class NoPlatform(errors.ImageError):
    """An index has images, and none for the machine that was asked for."""


class Manifest(NamedTuple):
    config: descriptor.Descriptor
    layers: tuple[descriptor.Descriptor, ...]  # the lowest first


class Found(NamedTuple):
    """An image in what a descriptor leads to, and the way there."""

    target: descriptor.Descriptor  # of the manifest
    manifest: Manifest
    indexes: tuple[descriptor.Descriptor, ...] = ()


def parse(data: bytes, target: descriptor.Descriptor, *, what: str) -> Manifest:
    where = f"{what}: manifest {target.digest}"
    given = _load(data, target, what=what)
    if "manifests" in given:
        raise errors.ImageError(f"{where} is a manifest and an index at once")
    if given.get("schemaVersion", 2) != 2:
        raise errors.ImageError(f"{where} has an unknown `schemaVersion`")
    config = descriptor.parse(given.get("config"), what=f"{where}: config")
    if config.media_type not in descriptor.CONFIGS:
        raise errors.ImageError(f"{what} is not a container image: its config is `{config.media_type[:100]}`")
    layers = given.get("layers")
    if not isinstance(layers, list) or len(layers) > ENTRY_LIMIT:
        raise errors.ImageError(f"{where} has no list `layers` of a reasonable length")
    found = [descriptor.parse(layer, what=f"{where}: layers") for layer in layers]
    for layer in found:
        descriptor.check_layer(layer, what=where)
    return Manifest(config, tuple(found))


def references(data: bytes, target: descriptor.Descriptor, *, what: str) -> list[descriptor.Descriptor]:
    """Everything that a manifest or an index points at, be it an image's or an attestation's."""
    if target.media_type in descriptor.INDEXES:
        return parse_index(data, target, what=what)
    given = _load(data, target, what=what)
    where = f"{what}: manifest {target.digest}"
    layers = given.get("layers") or []
    if not isinstance(layers, list) or len(layers) > ENTRY_LIMIT:
        raise errors.ImageError(f"{where} has no list `layers` of a reasonable length")
    return [descriptor.parse(each, what=where) for each in [given.get("config"), *layers]]


def parse_index(data: bytes, target: descriptor.Descriptor, *, what: str) -> list[descriptor.Descriptor]:
    return entries(_load(data, target, what=what), what=f"{what}: index {target.digest}")


def entries(index: Mapping[str, Any], *, what: str) -> list[descriptor.Descriptor]:
    if "layers" in index or "config" in index:
        raise errors.ImageError(f"{what} is an index and a manifest at once")
    manifests = index.get("manifests")
    if not isinstance(manifests, list):
        raise errors.ImageError(f"{what} has no list `manifests`")
    if len(manifests) > ENTRY_LIMIT:
        raise errors.ImageError(f"{what} has more than {ENTRY_LIMIT} entries")
    return [descriptor.parse(entry, what=what) for entry in manifests]


def find(candidates: Sequence[descriptor.Descriptor], read: Read, *, what: str, machine: str | None = None) -> Found:
    """Down through indexes to the one manifest for this machine, or for ``machine`` as uname(2) has it."""
    way: list[descriptor.Descriptor] = []
    for _ in range(DEPTH_LIMIT):
        chosen = platform.choose(candidates, machine)
        if chosen is None:
            raise _no_platform(candidates, machine, what)
        if chosen.media_type in descriptor.MANIFESTS:
            return Found(chosen, parse(read(chosen), chosen, what=what), tuple(way))
        if chosen.media_type not in descriptor.INDEXES:
            raise errors.ImageError(f"{what}: `{chosen.media_type[:100]}` is neither an image nor an index")
        way.append(chosen)
        candidates = parse_index(read(chosen), chosen, what=what)
    raise errors.ImageError(f"{what}: indexes are nested more than {DEPTH_LIMIT} deep")


def assemble(
    found: Manifest,
    config: bytes,
    source_of: Callable[[descriptor.Descriptor], source.Source],
    *,
    verify: bool,
    what: str,
) -> content.Content:
    """The image with its layers from ``source_of``. ``verify`` when sources don't look at the digest by themselves."""
    layers = [
        content.Layer(source_of(layer), "", layer.digest, layer.size) if verify else content.Layer(source_of(layer), "")
        for layer in found.layers
    ]
    return content.assemble(config, layers, what=what)


def _no_platform(candidates: Sequence[descriptor.Descriptor], machine: str | None, what: str) -> NoPlatform:
    offered = sorted({str(each.platform) for each in candidates if each.platform})
    name, _ = platform.architecture(machine)
    return NoPlatform(f"{what}: there is no image for linux/{name}", hint=f"it has {', '.join(offered)}")


def _load(data: bytes, target: descriptor.Descriptor, *, what: str) -> Mapping[str, Any]:
    value = content.parse_json(data, what=f"{what}: {target.digest}")
    own = value.get("mediaType")
    if own is not None and own != target.media_type:
        raise errors.ImageError(
            f"{what}: {target.digest} calls itself `{str(own)[:100]}`, its descriptor `{target.media_type}`"
        )
    return value
