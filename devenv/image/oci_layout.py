"""A folder in the OCI image layout, as ``skopeo``, ``umoci``, ``buildah`` and ``docker buildx`` write it.

    oci-layout                 {"imageLayoutVersion": "1.0.0"}
    index.json                 descriptors of manifests and of further indexes, with names and platforms
    blobs/sha256/<hex>         manifests, configs and layers

Every blob is verified against the digest and the size that led to it.
"""

from __future__ import annotations

from devenv import errors
from devenv.image import blobs, content, descriptor, files, manifest, reference, source


class Layout:
    def __init__(self, found: files.Files, *, what: str) -> None:
        self._files = found
        self._what = what

    def find(self, *, name: str = "", digest: str = "") -> content.Content:
        """The image called ``name``, or with that manifest, or the only one, for this machine's platform."""
        chosen = self.choose(name=name, digest=digest)
        found = manifest.find(chosen, self.read, what=self._what).manifest
        return manifest.assemble(found, self.read(found.config), self.source, verify=True, what=self._what)

    def choose(self, *, name: str = "", digest: str = "") -> list[descriptor.Descriptor]:
        """What is called so in its index, for whichever platforms. Raises ``ImageError`` when nothing is."""
        return self._select(self.entries(), name=name, digest=digest)

    def entries(self) -> list[descriptor.Descriptor]:
        self._check_version()
        data = self._files.read("index.json", what=self._what)
        index = content.parse_json(data, what=f"{self._what}: index.json")
        return manifest.entries(index, what=f"{self._what}: index.json")

    # -- choosing ---------------------------------------------------------------------------------------------

    def _check_version(self) -> None:
        where = self._files.where
        if not self._files.has("oci-layout"):
            raise errors.ImageError(
                f"{self._what}: `{where}` is not an OCI image layout: it has no file `oci-layout`",
                hint=f"make one: skopeo copy docker://docker.io/library/NAME:TAG oci:{where}",
            )
        given = content.parse_json(self._files.read("oci-layout", what=self._what), what=f"{self._what}: oci-layout")
        version = str(given.get("imageLayoutVersion", ""))
        if not version.startswith("1."):
            raise errors.ImageError(f"{self._what}: the image layout version `{version}` is not known")

    def _select(self, entries: list[descriptor.Descriptor], *, name: str, digest: str) -> list[descriptor.Descriptor]:
        if digest:
            found = [entry for entry in entries if entry.digest == digest]
        elif name:
            found = [entry for entry in entries if entry.has_name(name)] or _called(entries, name)
        elif len({entry.name for entry in entries}) <= 1:
            found = entries
        else:
            found = [entry for entry in entries if entry.has_name("latest")]
        if found:
            return found
        names = sorted({entry.name for entry in entries if entry.name})
        if not entries:
            raise errors.ImageError(f"{self._what}: there is no image in `{self._files.where}`")
        wanted = f"`{name or digest}` is not in `{self._files.where}`" if name or digest else "it holds several images"
        hint = "it has " + ", ".join(f"`{each}`" for each in names[:20]) if names else "its images have no names"
        raise errors.ImageError(f"{self._what}: {wanted}", hint=hint)

    # -- reading ----------------------------------------------------------------------------------------------

    def has(self, wanted: descriptor.Descriptor) -> bool:
        return self._files.has(f"blobs/sha256/{wanted.hex}")

    def source(self, wanted: descriptor.Descriptor) -> source.Source:
        return self._files.source(f"blobs/sha256/{wanted.hex}")

    def read(self, wanted: descriptor.Descriptor) -> bytes:
        """A manifest, an index or a config, verified."""
        if wanted.size > descriptor.JSON_LIMIT:
            raise errors.ImageError(f"{self._what}: {wanted.digest} is larger than {descriptor.JSON_LIMIT} bytes")
        data = self._files.read(f"blobs/sha256/{wanted.hex}", what=self._what)
        blobs.check(data, wanted, what=self._what)
        return data


def full_name(entry: descriptor.Descriptor) -> str:
    """Its whole reference, if its annotations say more than a bare tag; else ""."""
    name = entry.name
    if not set(name) & {":", "/"}:
        return ""
    try:
        parsed = reference.parse(name)
    except errors.ImageError:
        return ""
    return str(parsed) if parsed.transport is reference.Transport.REGISTRY and parsed.tag else ""


def _called(entries: list[descriptor.Descriptor], name: str) -> list[descriptor.Descriptor]:
    """Those that mean the same by another spelling."""
    try:
        wanted = str(reference.parse(name))
    except errors.ImageError:
        return []
    return [entry for entry in entries if full_name(entry) == wanted]
