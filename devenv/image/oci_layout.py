"""A folder in the OCI image layout, as ``skopeo``, ``umoci``, ``buildah`` and ``docker buildx`` write it.

    oci-layout                 {"imageLayoutVersion": "1.0.0"}
    index.json                 descriptors of manifests and of further indexes, with names and platforms
    blobs/sha256/<hex>         manifests, configs and layers

Every blob is verified against the digest and the size that led to it.
"""

from __future__ import annotations

import os

from devenv import errors
from devenv.image import blobs, content, descriptor, manifest, source


class Layout:
    def __init__(self, folder: str, *, what: str) -> None:
        self._folder = folder
        self._what = what

    def find(self, *, name: str = "", digest: str = "") -> content.Content:
        """The image called ``name``, or with that manifest, or the only one, for this machine's platform."""
        self._check_version()
        data = content.read_file(f"{self._folder}/index.json", what=self._what)
        index = content.parse_json(data, what=f"{self._what}: index.json")
        entries = manifest.entries(index, what=f"{self._what}: index.json")
        chosen = self._select(entries, name=name, digest=digest)
        found = manifest.find(chosen, self._read, what=self._what).manifest
        return manifest.assemble(found, self._read(found.config), self._source, verify=True, what=self._what)

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

    # -- reading ----------------------------------------------------------------------------------------------

    def _source(self, wanted: descriptor.Descriptor) -> source.File:
        return source.File(f"{self._folder}/blobs/sha256/{wanted.hex}")

    def _read(self, wanted: descriptor.Descriptor) -> bytes:
        if wanted.size > descriptor.JSON_LIMIT:
            raise errors.ImageError(f"{self._what}: {wanted.digest} is larger than {descriptor.JSON_LIMIT} bytes")
        data = content.read_file(self._source(wanted).path, what=self._what)
        blobs.check(data, wanted, what=self._what)
        return data
