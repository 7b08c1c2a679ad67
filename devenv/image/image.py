"""An image that is ready to run: folders to mount, read-only, and what its config says."""

from __future__ import annotations

import dataclasses

from devenv.image import config as image_config


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    reference: str  # as the user wrote it
    digest: str  # sha256:…, the image's id; equal as long as a container need not be made anew
    config: image_config.ImageConfig
    lower: tuple[str, ...]  # folders of the root filesystem, the topmost first
    overlays: tuple[tuple[str, tuple[str, ...]], ...] = ()  # further trees with writable tops of their own
    binds: tuple[tuple[str, str], ...] = ()  # source, target
    notes: tuple[str, ...] = ()  # what could not be kept while unpacking, for people to read
