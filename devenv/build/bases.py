"""What FROM and ``--from`` name: images, looked for in the store, pulled where they are not, read off the disk.

    scratch                              nothing
    a name of the request's contexts     docker-image://NAME, oci-layout://DIR, image:sha256:… of the store's
    oci:, oci-archive:, docker-archive:  read in place
    anything else                        a registry's, with the digest that a lock has for it

Each is had once a build. What ``host:`` and ``rootfs:`` show has no layers that an image could be made of.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv import errors, events
from devenv.build import layers, progress, request
from devenv.image import content, descriptor, loading, manifest, names, reference, rootfs
from devenv.image import store as image_store
from devenv.util import paths


class Base(NamedTuple):
    name: str  # as it was written
    digest: str  # what it stood for; "" for scratch
    config: Mapping[str, Any]  # the whole of it, as it is in the store
    state: layers.State


SCRATCH = Base("scratch", "", {}, ())


class Bases:
    """Of one build. Safe for threads."""

    def __init__(
        self, where: paths.Paths, store: image_store.ImageStore, given: request.Request, *, tell: progress.Tell
    ) -> None:
        self._where = where
        self._store = store
        self._given = given
        self._tell = tell
        self._guard = threading.Lock()
        self._found: dict[tuple[str, str], Base] = {}

    def resolve(self, name: str, machine: str) -> Base:
        """``machine`` as uname(2) has it. Raises ``ImageError``, ``BuildError``."""
        if name == "scratch":
            return SCRATCH
        with self._guard:
            if (name, machine) not in self._found:
                self._found[name, machine] = self._resolve(name, machine)
            return self._found[name, machine]

    @property
    def named(self) -> list[tuple[str, str]]:
        """What was asked for, and the digests it stood for."""
        return sorted({(base.name, base.digest) for base in self._found.values()})

    def _resolve(self, name: str, machine: str) -> Base:
        text = _named(self._given.contexts.get(name, ""))
        if text.startswith("image:"):
            return self._read(name, self._by_digest(text.removeprefix("image:")), machine)
        wanted = reference.parse(text or self._given.pinned.get(name, name))
        if wanted.transport in {reference.Transport.HOST, reference.Transport.ROOTFS}:
            raise errors.BuildError(
                f"`FROM {name}` can't be: it is shown as it lies on this machine, and has no layers to build upon",
                hint="make an image of a folder: tar -C DIR -c . | devenv image import - NAME",
            )
        if wanted.transport is not reference.Transport.REGISTRY:
            path = rootfs.locate(wanted.path, base=self._given.context or "/", reference=name)
            target = loading.bring(self._store, self._where, wanted, path, held=self._store.held, machine=machine)
            return self._read(name, target, machine)
        return self._read(name, self._registry(name, wanted, machine), machine)

    def _by_digest(self, digest: str) -> descriptor.Descriptor:
        found = next((each for each in self._store.index.images() if each.target.digest == digest), None)
        if found is None:
            raise errors.ImageError(f"the store has no image {digest}")
        return found.target

    def _registry(self, name: str, wanted: reference.Reference, machine: str) -> descriptor.Descriptor:
        if not (self._given.pull and not wanted.digest):
            stored = self._store.index.find(wanted)
            if stored is not None and self._store.has(stored, machine):
                return stored.target
        self._pull(wanted, machine)
        found: names.Stored | None = self._store.index.find(wanted)
        if found is None:
            raise errors.ImageError(f"image `{name}` is not here")
        return found.target

    def _pull(self, wanted: reference.Reference, machine: str) -> None:
        # HTTP and TLS cost 25 ms that a build with nothing to pull shall not pay.
        from devenv.image import platform, pull
        from devenv.image.registry import client

        talk = client.Client(self._given.environ)
        try:
            architecture, _ = platform.architecture(machine)
            puller = pull.Puller(self._where, self._store, talk, emit=self._pulling)
            puller.pull(wanted.familiar, wanted_platform=f"linux/{architecture}", service=self._given.service)
        finally:
            talk.close()

    def _pulling(self, event: events.Event) -> None:
        states = {
            events.Status.WORKING: progress.State.PROGRESS if event.total else progress.State.STARTED,
            events.Status.DONE: progress.State.DONE,
            events.Status.WARNING: progress.State.WARNING,
            events.Status.ERROR: progress.State.FAILED,
        }
        self._tell(
            progress.Step(
                id=event.resource.strip(),
                state=states[event.status],
                name=f"pull {event.resource.strip().removeprefix('Image ')}",
                service=self._given.service,
                text=event.details,
                current=event.current,
                total=event.total,
                time=event.time or time.time(),
            )
        )

    def _read(self, name: str, target: descriptor.Descriptor, machine: str) -> Base:
        what = f"image `{name}`"
        store = self._store

        def read(each: descriptor.Descriptor) -> bytes:
            store.held.add(each.digest)
            return store.blobs.read(each, what=what)

        found = manifest.find([target._replace(platform=None)], read, what=what, machine=machine).manifest
        store.held.add(*(each.digest for each in found.layers))
        config = content.parse_json(read(found.config), what=f"{what}: its config")
        _, diff_ids, _ = content.parse_config_value(config, what=what)
        if len(diff_ids) != len(found.layers):
            raise errors.ImageError(f"{what}: its manifest has {len(found.layers)} layers, its config {len(diff_ids)}")
        state = tuple(layers.Layer(each, blob) for each, blob in zip(diff_ids, found.layers, strict=True))
        return Base(name, target.digest, config, state)


def _named(given: str) -> str:
    """A named context as a reference, if it is an image."""
    if given.startswith("docker-image://"):
        return given.removeprefix("docker-image://")
    if given.startswith("oci-layout://"):
        return f"oci:{given.removeprefix('oci-layout://')}"
    return given if given.startswith("image:") else ""


def is_image(given: str) -> bool:
    """Whether a named context is an image, not files."""
    return bool(_named(given))
