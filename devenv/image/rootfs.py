"""``rootfs:DIR``: a folder that somebody else filled, as a read-only image.

The folder is mounted as it is: what changes in it shows in containers at times that the kernel leaves undefined
(overlayfs: changes to underlying filesystems), so fill it first. Its id stands for the folder, not for its content.
"""

from __future__ import annotations

import hashlib
import os

from devenv import errors
from devenv.image import config as image_config
from devenv.image import image as image_module


def locate(path: str, *, base: str, reference: str) -> str:
    """The folder or file that ``path`` means, real and absolute, relative to ``base``."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise errors.ImageError(f"image `{reference}`: there is no user as in `{path}`")
    found = os.path.realpath(os.path.join(base, expanded))
    if not os.path.exists(found):
        raise errors.ImageError(
            f"image `{reference}`: `{found}` does not exist", hint="a path is relative to the project's folder"
        )
    return found


def resolve(path: str, *, base: str, reference: str) -> image_module.Image:
    folder = locate(path, base=base, reference=reference)
    if not os.path.isdir(folder):
        raise errors.ImageError(f"image `{reference}`: `{folder}` is not a folder", hint=_hint_for_file(folder))
    if folder == "/":
        raise errors.ImageError(
            f"image `{reference}`: the machine's own root would show its users' files",
            hint="write `host:` for this machine's operating system",
        )
    try:
        names = set(os.listdir(folder))
    except PermissionError as exc:
        raise errors.ImageError(f"image `{reference}`: `{folder}` may not be read", hint=f"ls -ld {folder}") from exc
    if not names:
        raise errors.ImageError(f"image `{reference}`: `{folder}` is empty")
    if "oci-layout" in names and "index.json" in names:
        raise errors.ImageError(
            f"image `{reference}`: `{folder}` is an OCI image layout", hint=f"write `oci:{path}` instead"
        )
    return image_module.Image(
        reference=reference,
        digest="sha256:" + hashlib.sha256(b"rootfs:" + os.fsencode(folder)).hexdigest(),
        config=image_config.ImageConfig(env=(image_config.DEFAULT_PATH,), cmd=("/bin/sh",)),
        lower=(folder,),
    )


def _hint_for_file(path: str) -> str | None:
    if path.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst")):
        return f"unpack it first: mkdir rootfs && tar -xf {path} -C rootfs"
    return None
