"""What a build came to."""

from __future__ import annotations

import dataclasses

from devenv.build.dockerfile import instructions
from devenv.image import descriptor


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    target: descriptor.Descriptor | None  # of the manifest or index in the store; None where only files were written
    id: str = ""  # the digest of the config, as Docker's image id
    tags: tuple[str, ...] = ()
    bases: tuple[tuple[str, str], ...] = ()  # what FROM named, and the digest it stood for
    warnings: tuple[instructions.Warning, ...] = ()
    steps: int = 0
    cached: int = 0
