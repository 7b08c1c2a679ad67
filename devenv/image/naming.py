"""Names that people give to images here. One that another image had moves, and that is told, never silent."""

from __future__ import annotations

from devenv import errors
from devenv.image import reference


def target(text: str) -> reference.Reference:
    """A name that can be given. Raises ``ImageError``."""
    wanted = reference.parse(text)
    if wanted.transport is not reference.Transport.REGISTRY:
        raise errors.ImageError(f"`{text}` is no name for an image: it says where one lies on the disk")
    if wanted.digest:
        raise errors.ImageError(f"`{text}` has a digest, which is nothing one gives", hint="write NAME or NAME:TAG")
    return wanted


def moved(tag: str, digest: str) -> str:
    """What is said of a name that an image with ``digest`` had before."""
    return f"`{reference.parse(tag).familiar}` was {digest}"
