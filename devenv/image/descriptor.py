"""How images point at content: a media type, a digest and a size, none of which is believed before it is verified."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv import errors

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
DOCUMENTS = INDEXES | MANIFESTS
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

NAME_ANNOTATION = "org.opencontainers.image.ref.name"
# What containerd and Docker write beside it: the whole reference, where the other has the tag alone.
FULL_NAME_ANNOTATION = "io.containerd.image.name"

JSON_LIMIT = 4 << 20  # of an index, a manifest or a config: what registries and other tools allow

# A digest becomes part of a path, so nothing but this may pass.
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_LAYER = re.compile(
    r"application/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1|docker\.image\.rootfs(?:\.foreign)?\.diff)"
    r"\.tar(?:[.+](?:gzip|zstd))?",
    re.ASCII,
)


class Platform(NamedTuple):
    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


class Descriptor(NamedTuple):
    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = {}

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    @property
    def name(self) -> str:
        return self.annotations.get(FULL_NAME_ANNOTATION) or self.annotations.get(NAME_ANNOTATION) or ""

    def has_name(self, name: str) -> bool:
        return name in {self.annotations.get(NAME_ANNOTATION), self.annotations.get(FULL_NAME_ANNOTATION)}


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def check_digest(digest: Any, *, what: str) -> str:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise errors.ImageError(f"{what}: {str(digest)[:100]!r} is not a sha256 digest")
    return digest


def parse(given: Any, *, what: str) -> Descriptor:
    """``what`` names in errors where the descriptor stands."""
    if not isinstance(given, Mapping):
        raise errors.ImageError(f"{what}: a descriptor is not an object")
    media_type, size = given.get("mediaType"), given.get("size")
    if not isinstance(media_type, str):
        raise errors.ImageError(f"{what}: a descriptor has no `mediaType`")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        raise errors.ImageError(f"{what}: a descriptor has no valid `size`")
    annotations = given.get("annotations") or {}
    if not isinstance(annotations, Mapping):
        raise errors.ImageError(f"{what}: `annotations` is not an object")
    return Descriptor(
        media_type,
        check_digest(given.get("digest"), what=what),
        size,
        _platform(given.get("platform"), what),
        {str(name): str(value) for name, value in annotations.items()},
    )


def to_json(given: Descriptor, **more: Any) -> dict[str, Any]:
    return {"mediaType": given.media_type, "digest": given.digest, "size": given.size, **more}


def _platform(given: Any, what: str) -> Platform | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise errors.ImageError(f"{what}: `platform` is not an object")
    return Platform(*(str(given.get(name) or "") for name in ("os", "architecture", "variant")))


def check_layer(layer: Descriptor, *, what: str) -> None:
    if not _LAYER.fullmatch(layer.media_type):
        hint = "it is encrypted" if layer.media_type.endswith("+encrypted") else None
        raise errors.ImageError(f"{what}: a layer has the unknown media type `{layer.media_type[:100]}`", hint=hint)
