"""From a reference to an image that is ready to run. The first time may take seconds, the next well below one
millisecond: what was prepared is a small record in ``<data>/images``, checked against the disk each time.

    <data>/images/    records of prepared images
    <data>/layers/    unpacked layers and the skeletons of ``host:``, read-only and shared
    <data>/stage/     what is being prepared, and the locks for it; committed by rename

Safe for several processes at once, and for threads.
"""

from __future__ import annotations

from devenv import errors
from devenv.image import host, reference, rootfs
from devenv.image import image as image_module
from devenv.util import paths

Image = image_module.Image


class ImageStore:
    def __init__(self, where: paths.Paths) -> None:
        self._where = where

    def resolve(self, text: str, *, base: str) -> Image:
        """``base`` is the project's folder, which paths are relative to. Raises ``ImageError``."""
        wanted = reference.parse(text)
        if wanted.transport is reference.Transport.HOST:
            return host.resolve(self._where)
        if wanted.transport is reference.Transport.ROOTFS:
            return rootfs.resolve(wanted.path, base=base, reference=text)
        raise _not_yet(wanted)


def _not_yet(wanted: reference.Reference) -> errors.ImageError:
    if wanted.transport is reference.Transport.REGISTRY:
        return errors.ImageError(
            f"image `{wanted.familiar}`: pulling from registries is not built in yet",
            hint=f"copy it into a folder with `skopeo copy docker://{wanted} oci:DIR` and write `oci:DIR`,"
            " or use `host:` or `rootfs:DIR`",
        )
    return errors.ImageError(
        f"image `{wanted}`: archives are not built in yet",
        hint=f"copy it into a folder with `skopeo copy {wanted} oci:DIR` and write `oci:DIR`",
    )
