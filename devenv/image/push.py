"""Images from the store to a registry: blobs first, four at a time, then manifests, the one with the name last.

What goes out is what came in, byte for byte. Of an index most often one platform is here: where the registry has the
others, the index is pushed; where not, the manifest of what is here takes the name, and that is said.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import NamedTuple

from devenv import errors, events
from devenv.image import blobs, compressed, descriptor, lease, manifest, names, platform, reference, telling
from devenv.image import store as image_store
from devenv.image.registry import client
from devenv.image.registry import errors as registry_errors
from devenv.image.registry import pusher as registry_pusher
from devenv.util import paths

WORKERS = 4


class _Part(NamedTuple):
    """One platform's image."""

    target: descriptor.Descriptor
    manifest: manifest.Manifest


class Pusher:
    """For one command. Safe for threads."""

    def __init__(
        self,
        where: paths.Paths,
        store: image_store.ImageStore,
        talk: client.Client,
        *,
        emit: telling.Emit = lambda _: None,
    ) -> None:
        self._where = where
        self._store = store
        self._client = talk
        self._emit = emit

    def push(self, text: str, *, wanted_platform: str = "", service: str = "") -> descriptor.Descriptor:
        """Returns what the name means in the registry now. Raises ``ImageError``."""
        wanted = reference.parse(text)
        say = telling.Teller(text, service, self._emit, word="Pushing")
        say.status(events.Status.WORKING, "Pushing")
        try:
            with registry_errors.about(f"image `{text}`"), lease.Lease(self._where) as held:
                stored = self._stored(wanted, text)
                held.add(stored.target.digest)
                stored = self._compressed(stored, held, what=f"image `{text}`")
                out = self._client.pusher(wanted)
                what = f"image `{text}`"
                task = _Task(self._store.blobs, out, stored=stored, wanted=wanted, held=held, what=what)
                machine = platform.machine(wanted_platform) if wanted_platform else None
                target = task.run(machine, say)
            self._store.index.put(stored.target, repositories=[f"{wanted.registry}/{wanted.repository}"])
        except errors.DevenvError as exc:
            say.status(events.Status.ERROR, "Error", exc.message)
            raise
        partial = target.digest != stored.target.digest
        say.status(events.Status.DONE, "Pushed", "only the platform that is here" if partial else target.digest)
        return target

    def _compressed(self, stored: names.Stored, held: lease.Lease, *, what: str) -> names.Stored:
        """What was built here has plain layers. From now on its names mean what the registry has of it."""
        target = compressed.image(self._where, self._store.blobs, stored.target, held=held, what=what)
        if target == stored.target:
            return stored
        self._store.index.put(target, tags=stored.tags, repositories=stored.repositories)
        self._store.index.remove(stored.target.digest)
        return stored._replace(target=target)

    def _stored(self, wanted: reference.Reference, text: str) -> names.Stored:
        if wanted.transport is not reference.Transport.REGISTRY:
            raise errors.ImageError(f"image `{text}` is not one of a registry", hint="push it under a registry's name")
        if wanted.digest:
            raise errors.ImageError(f"image `{text}` has a digest: one pushes to a tag")
        stored = self._store.index.find(wanted)
        if stored is None:
            raise errors.ImageError(f"image `{text}` is not here", hint="`devenv image ls` lists those that are")
        return stored


class _Task:
    def __init__(
        self,
        store: blobs.BlobStore,
        out: registry_pusher.Pusher,
        *,
        stored: names.Stored,
        wanted: reference.Reference,
        held: lease.Lease,
        what: str,
    ) -> None:
        self._blobs = store
        self._out = out
        self._stored = stored
        self._wanted = wanted
        self._held = held
        self._what = what

    def run(self, machine: str | None, say: telling.Teller) -> descriptor.Descriptor:
        """The descriptor that the tag has in the end."""
        target = self._stored.target
        indexes, parts, lacking = self._walk(target, machine)
        if not parts:
            raise errors.ImageError(f"{self._what}: nothing of it that was asked for is here")
        self._send([each for part in parts for each in (part.manifest.config, *part.manifest.layers)], say)
        whole = machine is None and all(self._out.has_manifest(each) for each in lacking)
        if not whole:
            if len(parts) > 1:
                raise errors.ImageError(
                    f"{self._what}: several platforms are here, but not all of its index", hint="choose by --platform"
                )
            target = parts[0].target
        for each in (*(part.target for part in parts), *(reversed(indexes) if whole else ())):
            if each.digest != target.digest:
                self._out.manifest(each, self._read(each))
        self._out.manifest(target, self._read(target), tag=self._wanted.tag)
        return target

    def _walk(
        self, target: descriptor.Descriptor, machine: str | None
    ) -> tuple[list[descriptor.Descriptor], list[_Part], list[descriptor.Descriptor]]:
        """Indexes, the root first; the images that are here; what else the indexes name."""
        indexes: list[descriptor.Descriptor] = []
        parts: list[_Part] = []
        lacking: list[descriptor.Descriptor] = []
        pending = [target]
        while pending:
            each = pending.pop(0)
            self._held.add(each.digest)
            if each.media_type in descriptor.INDEXES and self._blobs.has(each):
                indexes.append(each)
                pending += manifest.parse_index(self._read(each), each, what=self._what)
            elif (part := self._part(each, machine)) is not None:
                parts.append(part)
            else:
                lacking.append(each)
        return indexes, parts, lacking

    def _part(self, each: descriptor.Descriptor, machine: str | None) -> _Part | None:
        """None if not all of it is here, or it is for another machine than asked for."""
        if not self._blobs.has(each) or (machine is not None and platform.choose([each], machine) is None):
            return None
        part = _Part(each, manifest.parse(self._read(each), each, what=self._what))
        needed = (part.manifest.config, *part.manifest.layers)
        self._held.add(*(one.digest for one in needed))
        return part if all(map(self._blobs.has, needed)) else None

    def _read(self, each: descriptor.Descriptor) -> bytes:
        return self._blobs.read(each, what=self._what)

    def _send(self, wanted: Sequence[descriptor.Descriptor], say: telling.Teller) -> None:
        unique = {each.digest: each for each in wanted}
        total = sum(each.size for each in unique.values())
        sent = dict.fromkeys(unique, 0)
        source = self._mountable()

        def reached(each: descriptor.Descriptor, count: int) -> None:
            sent[each.digest] = count
            say.progress(lambda: (sum(sent.values()), total))

        def send(each: descriptor.Descriptor) -> None:
            path = self._blobs.path(each)
            self._out.blob(each, path, mount_from=source, progress=lambda count: reached(each, count))
            reached(each, each.size)

        with concurrent.futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="send") as threads:
            work = [threads.submit(send, each) for each in unique.values()]
            try:
                for done in concurrent.futures.as_completed(work):
                    done.result()
            except BaseException:
                for each in work:
                    each.cancel()
                raise

    def _mountable(self) -> str:
        """Another repository of the same registry that is known to have it."""
        prefix, own = f"{self._wanted.registry}/", f"{self._wanted.registry}/{self._wanted.repository}"
        others = [name for name in self._stored.repositories if name.startswith(prefix) and name != own]
        return others[0].removeprefix(prefix) if others else ""
