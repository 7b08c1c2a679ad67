"""A folder in the OCI image layout, as ``skopeo``, ``umoci``, ``buildah`` and ``docker buildx`` write it.

    oci-layout                 {"imageLayoutVersion": "1.0.0"}
    index.json                 descriptors of manifests and of further indexes, with names and platforms
    blobs/sha256/<hex>         manifests, configs and layers

Every blob is verified against the digest and the size that led to it. A manifest that could be read as two things is
refused (CVE-2021-41190).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from devenv import errors
from devenv.image import content, descriptor, platform

DEPTH_LIMIT = 4  # of indexes in indexes
ENTRY_LIMIT = 10_000


class Layout:
    def __init__(self, folder: str, *, what: str) -> None:
        self._folder = folder
        self._what = what

    def find(self, *, name: str = "", digest: str = "") -> content.Content:
        """The image called ``name``, or with that manifest, or the only one, for this machine's platform."""
        self._check_version()
        data = content.read_file(f"{self._folder}/index.json", what=self._what)
        index = content.parse_json(data, what=f"{self._what}: index.json")
        entries = self._entries(index, "index.json")
        chosen = self._select(entries, name=name, digest=digest)
        return self._manifest(self._expand(chosen))

    # -- choosing ---------------------------------------------------------------------------------------------

    def _check_version(self) -> None:
        path = f"{self._folder}/oci-layout"
        if not os.path.isfile(path):
            raise errors.ImageError(
                f"{self._what}: `{self._folder}` is not an OCI image layout: it has no file `oci-layout`",
                hint=f"make one: skopeo copy docker://docker.io/library/NAME:TAG oci:{self._folder}",
            )
        given = content.parse_json(content.read_file(path, what=self._what), what=f"{self._what}: oci-layout")
        version = str(given.get("imageLayoutVersion", ""))
        if not version.startswith("1."):
            raise errors.ImageError(f"{self._what}: the image layout version `{version}` is not known")

    def _entries(self, index: Mapping[str, Any], where: str) -> list[descriptor.Descriptor]:
        if "layers" in index or "config" in index:
            raise errors.ImageError(f"{self._what}: {where} is an index and a manifest at once")
        manifests = index.get("manifests")
        if not isinstance(manifests, list):
            raise errors.ImageError(f"{self._what}: {where} has no list `manifests`")
        if len(manifests) > ENTRY_LIMIT:
            raise errors.ImageError(f"{self._what}: {where} has more than {ENTRY_LIMIT} entries")
        return [descriptor.parse(entry, what=f"{self._what}: {where}") for entry in manifests]

    def _select(self, entries: list[descriptor.Descriptor], *, name: str, digest: str) -> list[descriptor.Descriptor]:
        if digest:
            found = [entry for entry in entries if entry.digest == digest]
        elif name:
            found = [entry for entry in entries if entry.has_name(name)]
        elif len({entry.name for entry in entries}) <= 1:
            found = entries
        else:
            found = [entry for entry in entries if entry.has_name("latest")]
        if found:
            return found
        names = sorted({entry.name for entry in entries if entry.name})
        if not entries:
            raise errors.ImageError(f"{self._what}: there is no image in `{self._folder}`")
        wanted = f"`{name or digest}` is not in `{self._folder}`" if name or digest else "it holds several images"
        hint = "it has " + ", ".join(f"`{each}`" for each in names[:20]) if names else "its images have no names"
        raise errors.ImageError(f"{self._what}: {wanted}", hint=hint)

    def _expand(self, entries: list[descriptor.Descriptor]) -> descriptor.Descriptor:
        """Down through indexes to one manifest for this machine."""
        for _ in range(DEPTH_LIMIT):
            chosen = platform.choose(entries)
            if chosen is None:
                offered = sorted({str(entry.platform) for entry in entries if entry.platform})
                name, _ = platform.architecture()
                raise errors.ImageError(
                    f"{self._what}: there is no image for linux/{name}", hint=f"it has {', '.join(offered)}"
                )
            if chosen.media_type in descriptor.MANIFESTS:
                return chosen
            if chosen.media_type not in descriptor.INDEXES:
                raise errors.ImageError(f"{self._what}: `{chosen.media_type[:100]}` is neither an image nor an index")
            entries = self._entries(self._json(chosen), f"index {chosen.digest}")
        raise errors.ImageError(f"{self._what}: indexes are nested more than {DEPTH_LIMIT} deep")

    # -- reading ----------------------------------------------------------------------------------------------

    def _manifest(self, chosen: descriptor.Descriptor) -> content.Content:
        manifest = self._json(chosen)
        where = f"{self._what}: manifest {chosen.digest}"
        if "manifests" in manifest:
            raise errors.ImageError(f"{where} is a manifest and an index at once")
        if manifest.get("schemaVersion") not in {2, None}:
            raise errors.ImageError(f"{where} has an unknown `schemaVersion`")
        config = descriptor.parse(manifest.get("config"), what=f"{where}: config")
        if config.media_type not in descriptor.CONFIGS:
            raise errors.ImageError(f"{self._what} is not a container image: its config is `{config.media_type[:100]}`")
        layers = manifest.get("layers")
        if not isinstance(layers, list) or len(layers) > ENTRY_LIMIT:
            raise errors.ImageError(f"{where} has no list `layers` of a reasonable length")
        found = []
        for given in layers:
            layer = descriptor.parse(given, what=f"{where}: layers")
            descriptor.check_layer(layer, what=where)
            found.append(content.Layer(self._path(layer), "", layer.digest, layer.size))
        return content.assemble(self._blob(config), found, what=self._what)

    def _path(self, wanted: descriptor.Descriptor) -> str:
        return f"{self._folder}/blobs/sha256/{wanted.hex}"

    def _blob(self, wanted: descriptor.Descriptor) -> bytes:
        if wanted.size > descriptor.JSON_LIMIT:
            raise errors.ImageError(f"{self._what}: {wanted.digest} is larger than {descriptor.JSON_LIMIT} bytes")
        data = content.read_file(self._path(wanted), what=self._what)
        if len(data) != wanted.size:
            raise errors.ImageError(
                f"{self._what}: {wanted.digest} has {len(data)} bytes, its descriptor says {wanted.size}"
            )
        got = hashlib.sha256(data).hexdigest()
        if got != wanted.hex:
            raise errors.ImageError(f"{self._what}: the content of {wanted.digest} has the digest sha256:{got}")
        return data

    def _json(self, wanted: descriptor.Descriptor) -> Mapping[str, Any]:
        value = content.parse_json(self._blob(wanted), what=f"{self._what}: {wanted.digest}")
        own = value.get("mediaType")
        if own is not None and own != wanted.media_type:
            raise errors.ImageError(
                f"{self._what}: {wanted.digest} calls itself `{str(own)[:100]}`, its descriptor `{wanted.media_type}`"
            )
        return value
