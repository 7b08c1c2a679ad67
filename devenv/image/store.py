"""From a reference to an image that is ready to run. The first time may take seconds, the next well below one
millisecond: what preparing came to is remembered in ``records``.

    <data>/devenv.db, names.json    images in the store and their names: ``index``
    <data>/blobs/                   their manifests, configs and compressed layers: ``blobs``, ``ingest``
    <data>/layers/                  unpacked layers and the skeletons of ``host:``, read-only and shared: ``snapshot``
    <data>/images/                  records of prepared images: ``records``
    <data>/stage/                   what is being prepared, and the locks for it; committed by rename
    <data>/leases/                  what running processes use: ``lease``; the rest is removed by ``gc``

Safe for several processes at once, and for threads. What reads archives, layouts and layers is imported when there is
one to read: a command that finds all of it prepared takes no longer than that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading

from devenv import errors
from devenv.image import (
    blobs,
    content,
    descriptor,
    gc,
    index,
    lease,
    manifest,
    names,
    platform,
    records,
    reference,
    snapshot,
)
from devenv.image import image as image_module
from devenv.util import paths

Image = image_module.Image


class Missing(errors.ImageError):
    """The store has no image of that name: pulling it may help."""


class ImageStore:
    """What it hands out stays on the disk while this process lives, whatever is removed meanwhile."""

    def __init__(self, where: paths.Paths) -> None:
        self._where = where
        self._held: lease.Lease | None = None
        self._settling: list[threading.Thread] = []
        self._guard = threading.Lock()
        self.index = index.Index(where)
        self.blobs = blobs.BlobStore(where)

    def resolve(self, text: str, *, base: str, wanted_platform: str = "") -> Image:
        """``base`` is the project's folder, which paths are relative to. Raises ``ImageError``; ``Missing`` for a name
        that a registry may know."""
        wanted = reference.parse(text)
        if wanted.transport is reference.Transport.HOST:
            from devenv.image import host

            return self._kept(host.resolve(self._where))
        if wanted.transport is reference.Transport.ROOTFS:
            from devenv.image import rootfs

            return rootfs.resolve(wanted.path, base=base, reference=text)
        if wanted.transport is reference.Transport.REGISTRY:
            machine = platform.machine(wanted_platform) if wanted_platform else os.uname().machine
            return self._from_store(text, wanted, machine)
        return self._from_disk(text, wanted, base)

    @property
    def held(self) -> lease.Lease:
        """This process's lease. What is brought into the store goes under it, or under one of its own."""
        with self._guard:
            if self._held is None:
                self._held = lease.Lease(self._where)
            return self._held

    def close(self) -> None:
        """Let go what was handed out: from now on it may be collected."""
        for thread in self._settling:
            thread.join()
        with self._guard:
            if self._held is not None:
                self._held.release()
                self._held = None

    def unpack(self, found: content.Content, *, held: lease.Lease, what: str) -> list[snapshot.Snapshot]:
        """The layers, the lowest first. They may still arrive."""
        snapshots = snapshot.prepare(self._where, found, held=held, what=what)
        self._settle(snapshots)
        return snapshots

    def lowest_packed(self, found: content.Content) -> int | None:
        """The number of the lowest layer that is not unpacked."""
        chain_ids = snapshot.chain([each.diff_id for each in found.layers])
        packed = (number for number, each in enumerate(chain_ids) if snapshot.load(self._where, each) is None)
        return next(packed, None)

    def _settle(self, snapshots: list[snapshot.Snapshot]) -> None:
        """Nobody waits for the disk but the end of the process."""
        if not all(each.settled for each in snapshots):
            thread = threading.Thread(target=snapshot.settle, args=(self._where, snapshots), name="settle")
            self._settling = [each for each in self._settling if each.is_alive()] + [thread]
            thread.start()

    def has(self, stored: names.Stored, machine: str) -> bool:
        """Whether all that a container on that machine needs of it is here: of an index, most often one platform is.
        A lease of this process keeps it from then on."""
        target = stored.target._replace(platform=None)
        self.held.add(target.digest)
        try:
            found = manifest.find([target], lambda each: self.blobs.read(each, what=""), what="", machine=machine)
        except errors.ImageError:
            return False
        needed = [found.target, found.manifest.config, *found.manifest.layers]
        self.held.add(*(each.digest for each in needed))
        return all(map(self.blobs.has, needed))

    def _kept(self, image: Image) -> Image:
        self.held.add(*records.chain_ids(image))
        return image

    def _from_store(self, text: str, wanted: reference.Reference, machine: str) -> Image:
        key = _key(str(wanted), machine)
        state = records.state_of(names.path(self._where))
        if found := self._current(key, state, text):
            return found
        stored = self.index.find(wanted)
        if stored is None:
            raise _missing(wanted)
        what = f"image `{text}`"
        if not self.has(stored, machine):
            raise _missing(wanted)
        self.held.add(*gc.reach(self._where, stored.target).blobs)

        def read(each: descriptor.Descriptor) -> bytes:
            return self.blobs.read(each, what=what)

        candidates = [stored.target._replace(platform=None)]
        chosen = manifest.find(candidates, read, what=what, machine=machine).manifest
        image = self._unpacked(
            text, manifest.assemble(chosen, read(chosen.config), self.blobs.source, verify=False, what=what)
        )
        records.save(
            self._where,
            key,
            records.Record(image, names.path(self._where), state, snapshot.boot_id(), stored.target.digest),
        )
        return image

    def _from_disk(self, text: str, wanted: reference.Reference, base: str) -> Image:
        from devenv.image import rootfs

        path = rootfs.locate(wanted.path, base=base, reference=text)
        origin = _index(wanted, path, text)
        key = _key(f"{wanted.transport}:{wanted.name}@{wanted.digest}:{path}")
        # Taken before it is read: a change meanwhile shows at the next look.
        state = records.state_of(origin)
        if found := self._current(key, state, text):
            return found
        image = self._prepare(text, wanted, path)
        records.save(self._where, key, records.Record(image, origin, state, snapshot.boot_id(), ""))
        return image

    def _current(self, key: str, state: records.State | None, text: str) -> Image | None:
        record = records.load(self._where, key)
        if record is None or state is None or record.state != state or record.boot != snapshot.boot_id():
            return None
        self._kept(record.image)
        if not records.is_whole(record):
            return None
        records.touch(self._where, key)
        return dataclasses.replace(record.image, reference=text)

    def _prepare(self, text: str, wanted: reference.Reference, path: str) -> Image:
        from devenv.image import archive, docker_archive, files, oci_layout

        what = f"image `{text}`"
        if wanted.transport is reference.Transport.OCI:
            layout = oci_layout.Layout(files.Folder(path), what=what)
            return self._unpacked(text, layout.find(name=wanted.name, digest=wanted.digest))
        with archive.opened(self._where, path, what=what) as opened:
            found: oci_layout.Layout | docker_archive.DockerArchive
            if archive.is_layout(opened, wanted.transport):
                found = oci_layout.Layout(opened, what=what)
            else:
                found = docker_archive.DockerArchive(opened, what=what)
            return self._unpacked(text, found.find(name=wanted.name, digest=wanted.digest))

    def _unpacked(self, text: str, found: content.Content) -> Image:
        if not found.layers:
            raise errors.ImageError(f"image `{text}` has no layers: there is nothing to run in it")
        snapshots = self.unpack(found, held=self.held, what=text)
        notes = [*found.notes, *(note for each in snapshots for note in each.notes)]
        return Image(
            reference=text,
            digest=found.digest,
            config=found.config,
            lower=snapshot.visible(snapshots),
            notes=tuple(dict.fromkeys(notes)),
        )


def _key(text: str, machine: str = "") -> str:
    return hashlib.sha256(f"{text} {machine or os.uname().machine}".encode("utf-8", "surrogateescape")).hexdigest()


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


def _missing(wanted: reference.Reference) -> Missing:
    return Missing(f"image `{wanted.familiar}` is not here", hint=f"devenv image pull {wanted.familiar}")
