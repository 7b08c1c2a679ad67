"""From a reference to an image that is ready to run. The first time may take seconds, the next well below one
millisecond: what was prepared is a small record in ``<data>/images``, checked against the disk each time.

    <data>/images/    records of prepared images
    <data>/layers/    unpacked layers and the skeletons of ``host:``, read-only and shared
    <data>/stage/     what is being prepared, and the locks for it; committed by rename

Safe for several processes at once, and for threads.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any

from devenv import errors
from devenv.image import archive, content, host, oci_layout, reference, rootfs, snapshot
from devenv.image import config as image_config
from devenv.image import image as image_module
from devenv.util import fs, paths

Image = image_module.Image

VERSION = 1  # of the records


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
        if wanted.transport is reference.Transport.REGISTRY:
            raise _not_yet(wanted)
        return self._from_disk(text, wanted, base)

    def _from_disk(self, text: str, wanted: reference.Reference, base: str) -> Image:
        path = rootfs.locate(wanted.path, base=base, reference=text)
        index = _index(wanted, path, text)
        key = hashlib.sha256(repr((VERSION, *wanted[:3], path, wanted.digest, os.uname().machine)).encode())
        record_path = f"{self._where.data}/images/{key.hexdigest()}.json"
        # Taken before it is read: a change meanwhile shows at the next look.
        state = _state(index)
        record = fs.read_json(record_path)
        if _is_current(record, state):
            return _from_record(text, record)
        image = self._prepare(text, wanted, path)
        os.makedirs(f"{self._where.data}/images", mode=0o700, exist_ok=True)
        fs.write_json(record_path, _to_record(image, state))
        return image

    def _prepare(self, text: str, wanted: reference.Reference, path: str) -> Image:
        if wanted.transport is reference.Transport.OCI:
            found = oci_layout.Layout(path, what=f"image `{text}`").find(name=wanted.name, digest=wanted.digest)
            return self._unpacked(text, found)
        with archive.opened(self._where, path, wanted.transport, what=f"image `{text}`") as opened:
            return self._unpacked(text, opened.find(name=wanted.name, digest=wanted.digest))

    def _unpacked(self, text: str, found: content.Content) -> Image:
        if not found.layers:
            raise errors.ImageError(f"image `{text}` has no layers: there is nothing to run in it")
        snapshots = snapshot.prepare(self._where, found, what=text)
        notes = [*found.notes, *(note for each in snapshots for note in each.notes)]
        return Image(
            reference=text,
            digest=found.digest,
            config=found.config,
            lower=snapshot.visible(snapshots),
            notes=tuple(dict.fromkeys(notes)),
        )


def _index(wanted: reference.Reference, path: str, text: str) -> str:
    """The file that changes when the image does."""
    is_folder = os.path.isdir(path)
    if wanted.transport is not reference.Transport.OCI:
        if is_folder:
            hint = f"write `oci:{wanted.path}` for an image layout in a folder"
            raise errors.ImageError(f"image `{text}`: `{path}` is a folder", hint=hint)
        return path
    if not is_folder:
        hint = f"write `oci-archive:{wanted.path}` for an image layout in one file"
        raise errors.ImageError(f"image `{text}`: `{path}` is not a folder", hint=hint)
    return f"{path}/index.json"


def _state(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _is_current(record: Any, state: list[int] | None) -> bool:
    return (
        isinstance(record, dict)
        and state is not None
        and record["state"] == state
        and all(os.path.isdir(folder) for folder in record["lower"])
    )


def _to_record(image: Image, state: list[int] | None) -> dict[str, Any]:
    return {
        "version": VERSION,
        "state": state,
        "reference": image.reference,
        "digest": image.digest,
        "config": image.config.to_json(),
        "lower": image.lower,
        "notes": image.notes,
    }


def _from_record(text: str, record: dict[str, Any]) -> Image:
    return Image(
        reference=text,
        digest=record["digest"],
        config=image_config.ImageConfig.from_json(record["config"]),
        lower=tuple(record["lower"]),
        notes=tuple(record["notes"]),
    )


def _not_yet(wanted: reference.Reference) -> errors.ImageError:
    return errors.ImageError(
        f"image `{wanted.familiar}`: pulling from registries is not built in yet",
        hint=f"copy it into a folder with `skopeo copy docker://{wanted} oci:DIR` and write `oci:DIR`,"
        " or use `host:` or `rootfs:DIR`",
    )
