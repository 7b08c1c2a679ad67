"""Images from registries into the store: everything at once that can be, and all of it or nothing.

    resolver ─▶ index ─▶ manifest ─▶ config
                            └─▶ layers ── four at a time ──▶ blobs        each verified when it is whole
                                             └─ in their order ─▶ unpacked while they still arrive
                                                                     └─▶ the name, in one transaction

A layer that somebody else is fetching is waited for, what an earlier attempt left is gone on with, and what is here
already is not fetched. Until the name is there a lease keeps everything from the collector. ``abort``, a crash or a
refusal leave the name as it was, and parts of blobs for the next attempt.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from devenv import errors, events
from devenv.image import content, descriptor, ingest, lease, manifest, platform, reference, telling
from devenv.image import store as image_store
from devenv.image.registry import client, fetcher, resolver
from devenv.image.registry import errors as registry_errors
from devenv.util import paths

WORKERS = 4  # more connections make nothing faster


class Pulled(NamedTuple):
    target: descriptor.Descriptor  # a manifest or an index
    fresh: bool  # whether it was not here before


class Looked(NamedTuple):
    target: descriptor.Descriptor
    data: bytes  # the index or manifest
    config: bytes  # of a manifest


class Puller:
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

    def pull(self, text: str, *, wanted_platform: str = "", service: str = "", shown: str = "") -> Pulled:
        """Bring the image here, and up to date; ``shown`` is what to call it. Raises ``ImageError``."""
        wanted = reference.parse(text)
        machine = platform.machine(wanted_platform) if wanted_platform else None
        say = self._teller(shown or text, service)
        say.status(events.Status.WORKING, "Pulling")
        try:
            with registry_errors.about(f"image `{text}`"), lease.Lease(self._where) as held:
                pulled = self._pull(wanted, machine, held, say, text=text)
        except errors.DevenvError as exc:
            say.status(events.Status.ERROR, "Error", exc.message)
            raise
        say.status(events.Status.DONE, "Pulled", "" if pulled.fresh else "up to date")
        return pulled

    def _teller(self, text: str, service: str = "") -> telling.Teller:
        return telling.Teller(text, service, self._emit, word="Pulling")

    def look(self, text: str) -> Looked:
        """What the name means in its registry now; nothing of it is kept. Raises ``ImageError``."""
        wanted = reference.parse(text)
        say = self._teller(text)
        with registry_errors.about(f"image `{text}`"), lease.Lease(self._where) as held:
            root = self._client.resolver(wanted, say=say.warn).root()
            config = b""
            if root.descriptor.media_type in descriptor.MANIFESTS:
                source = self._client.fetcher(wanted, mirrors=True)
                attempt = _Transfer(self._store, blobs_of=source, text=text, held=held, say=say)
                config = attempt.config(manifest.parse(root.data, root.descriptor, what=f"image `{text}`").config)
        return Looked(root.descriptor, root.data, config)

    def tags(self, wanted: reference.Reference) -> list[str]:
        with registry_errors.about(f"image `{wanted.familiar}`"):
            return self._client.resolver(wanted).tags()

    def _pull(
        self, wanted: reference.Reference, machine: str | None, held: lease.Lease, say: telling.Teller, *, text: str
    ) -> Pulled:
        found = self._client.resolver(wanted, say=say.warn)
        known = self._store.index.find(wanted)
        here = known is not None and self._store.has(known, machine or os.uname().machine)
        if known is not None and here and found.head() == known.target.digest:
            self._keep(wanted, known.target)
            return Pulled(known.target, fresh=False)
        root = found.root()

        def transfer(*, mirrors: bool) -> None:
            source = self._client.fetcher(wanted, mirrors=mirrors)
            attempt = _Transfer(self._store, blobs_of=source, text=text, held=held, say=say)
            attempt.run(root, found, machine)

        try:
            transfer(mirrors=True)
        except ingest.Mismatch:
            # What arrived was wrong, or what a crash had left: once more, all of it, and not from a mirror.
            transfer(mirrors=False)
        self._keep(wanted, root.descriptor)
        return Pulled(root.descriptor, fresh=True)

    def _keep(self, wanted: reference.Reference, target: descriptor.Descriptor) -> None:
        name = f"{wanted.registry}/{wanted.repository}"
        # A name with a digest does not move the tag beside it.
        tags = [f"{name}:{wanted.tag}"] if wanted.tag and not wanted.digest else []
        self._store.index.put(target, tags=tags, repositories=[name])


class _Transfer:
    """One attempt at one image."""

    def __init__(
        self,
        store: image_store.ImageStore,
        *,
        blobs_of: fetcher.Fetcher,
        text: str,
        held: lease.Lease,
        say: telling.Teller,
    ) -> None:
        self._store = store
        self._blobs = store.blobs
        self._fetcher = blobs_of
        self._text = text
        self._what = f"image `{text}`"
        self._held = held
        self._say = say
        self._awaited: Sequence[ingest.Ingest] = ()

    def run(self, root: resolver.Document, found: resolver.Resolver, machine: str | None) -> None:
        documents = {root.descriptor.digest: root}

        def read(each: descriptor.Descriptor) -> bytes:
            if each.digest not in documents:
                documents[each.digest] = found.document(each.digest, each)
            return documents[each.digest].data

        chosen = manifest.find([root.descriptor], read, what=self._what, machine=machine)
        config = self.config(chosen.manifest.config)
        _check_platform(config, machine, self._what)
        self._layers(chosen.manifest, config)
        for document in reversed(documents.values()):
            self._blobs.put(document.descriptor, document.data, held=self._held, what=self._what)

    def config(self, wanted: descriptor.Descriptor) -> bytes:
        if wanted.size > descriptor.JSON_LIMIT:
            raise errors.ImageError(f"{self._what}: its config is larger than {descriptor.JSON_LIMIT} bytes")
        with self._ingest(wanted) as each:
            self._fetch(each)
        return self._blobs.read(wanted, what=self._what)

    def _layers(self, found: manifest.Manifest, config: bytes) -> None:
        ingests: dict[str, ingest.Ingest] = {}
        for layer in found.layers:
            each = ingests.setdefault(layer.digest, self._ingest(layer))
            if each.descriptor.size != layer.size:
                raise errors.ImageError(f"{self._what}: its manifest gives {layer.digest} two sizes")
        image = manifest.assemble(found, config, lambda layer: ingests[layer.digest], verify=False, what=self._what)
        self._awaited = list(ingests.values())
        with concurrent.futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="fetch") as threads:
            work = {each: threads.submit(self._download, ingests[each], ingests) for each in ingests}
            try:
                self._unpack(image, found, work)
                for done in work.values():
                    done.result()
            except BaseException as exc:
                _cancel(ingests, exc)
                raise

    def _unpack(
        self, image: content.Content, found: manifest.Manifest, work: Mapping[str, concurrent.futures.Future[None]]
    ) -> None:
        try:
            if image.layers:
                self._store.unpack(image, held=self._held, what=self._text)
        except errors.ImageError:
            # The unpacker meets what arrives before its digest is known. If that is wrong, it is the better reason.
            broken = self._store.lowest_packed(image)
            if broken is not None:
                work[found.layers[broken].digest].result()
            raise

    def _download(self, each: ingest.Ingest, others: Mapping[str, ingest.Ingest]) -> None:
        try:
            with each:
                self._fetch(each)
        except BaseException as exc:
            _cancel(others, exc)  # whoever unpacks waits for one of them
            raise

    def _fetch(self, each: ingest.Ingest) -> None:
        self._progress()
        if not each.complete:
            self._fetcher.fetch(each.descriptor, each, progress=lambda _: self._progress())
            each.commit()
        self._progress()

    def _progress(self) -> None:
        if self._awaited:
            self._say.progress(
                lambda: (
                    sum(each.offset for each in self._awaited),
                    sum(each.descriptor.size for each in self._awaited),
                )
            )

    def _ingest(self, wanted: descriptor.Descriptor) -> ingest.Ingest:
        return self._blobs.ingest(wanted, held=self._held, what=self._what, waiting=self._waiting)

    def _waiting(self) -> None:
        self._say.status(events.Status.WORKING, "Waiting", "for another process that is pulling it")


def _cancel(ingests: Mapping[str, ingest.Ingest], error: BaseException) -> None:
    for each in ingests.values():
        each.cancel(error)


def _check_platform(config: bytes, machine: str | None, what: str) -> None:
    """An image for one platform says nothing of it until its config is read."""
    given = content.parse_json(config, what=f"{what}: its config")
    own = given.get("architecture")
    if machine is not None and own and own != platform.architecture(machine)[0]:
        wanted = platform.architecture(machine)[0]
        raise errors.ImageError(f"{what} is made for linux/{str(own)[:100]}, linux/{wanted} is asked for")
