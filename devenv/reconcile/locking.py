"""Which digest a name stands for in this project: the lock's, and what is new is written there.

Only names that move are locked: a tag in a registry. What a digest names, what lies on the disk, what is built here
and what only this machine has (an image that was loaded or committed) stays out of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping

from devenv import errors
from devenv.image import content, descriptor, manifest, reference
from devenv.image import store as image_store
from devenv.spec import lockfile
from devenv.util import fs, lock, paths


class Unwritable(errors.ImageError):
    """The project's folder takes no file."""


class Lock:
    """That of one project, for one request."""

    def __init__(
        self, where: paths.Paths, store: image_store.ImageStore, directory: str, *, frozen: bool = False
    ) -> None:
        self._where = where
        self._store = store
        self._directory = directory
        self.frozen = frozen
        self.images = lockfile.load(directory)
        if self.images:
            _remember(where, directory)

    def pinned(self, text: str) -> str:
        """``text`` with the digest that it is locked to; as it is, if it isn't. Raises ``ImageError`` if frozen."""
        wanted = reference.parse(text)
        if not moves(wanted):
            return text
        found = self.images.get(str(wanted))
        if found is not None:
            return wanted._replace(digest=found.digest).familiar
        if self.frozen:
            raise errors.ImageError(
                f"image `{text}` is not in `{lockfile.NAME}`, and `--frozen` adds nothing to it",
                hint="run `devenv lock` without `--frozen`, and commit the file",
            )
        return text

    def keep(self, texts: Mapping[str, bool]) -> bool:
        """Lock what is not locked yet to what the store has, and anew what is said to follow its name in the registry
        (the value). Returns whether the file changed. Raises ``Unwritable``, with which all else goes on."""
        found: dict[str, lockfile.Locked] = {}
        for text, follows in sorted(texts.items()):
            wanted = reference.parse(text)
            known = self.images.get(str(wanted))
            if known is not None and (self.frozen or not follows):
                self._name(wanted, known.digest)
            elif moves(wanted) and not self.frozen:
                stored = self._store.index.find(wanted)
                if stored is not None and not self.is_local(text):
                    found[str(wanted)] = locked(stored.target, self._read(stored.target), self._read)
        return self.merge(found) if found else False

    def is_local(self, text: str) -> bool:
        """Whether it is here and no registry is known to have it: another machine could not get it."""
        wanted = reference.parse(text)
        stored = self._store.index.find(wanted)
        return stored is not None and f"{wanted.registry}/{wanted.repository}" not in stored.repositories

    def merge(self, found: Mapping[str, lockfile.Locked], *, only: Iterable[str] | None = None) -> bool:
        """Write ``found`` over what is there; ``only``: and leave out what is not among these names."""
        os.makedirs(self._where.run, mode=0o700, exist_ok=True)
        held = lock.acquire(f"{self._where.run}/lockfile.lock", wait=True)
        assert held is not None
        try:
            images = lockfile.load(self._directory) | dict(found)
            if only is not None:
                kept = set(only)
                images = {name: value for name, value in images.items() if name in kept}
            self.images = images
            if images:
                _remember(self._where, self._directory)
            return lockfile.save(self._directory, images)
        except OSError as exc:
            path = lockfile.path(self._directory)
            raise Unwritable(f"`{path}` can't be written: {exc.strerror}", hint="make the folder writable") from exc
        finally:
            os.close(held)

    def _name(self, wanted: reference.Reference, digest: str) -> None:
        """What came by its digest has no name; it gets the one that it was locked for, unless another image has it."""
        if self._store.index.find(wanted) is None:
            stored = self._store.index.find(wanted._replace(digest=digest))
            if stored is not None:
                self._store.index.put(stored.target, tags=[str(wanted)])

    def _read(self, target: descriptor.Descriptor) -> bytes:
        return self._store.blobs.read(target, what=f"image {target.digest}")


def _remember(where: paths.Paths, directory: str) -> None:
    """``<data>/locks/<key>.json``: where a lock is, so that what it names is among the last images to be pruned."""
    path = f"{where.data}/locks/{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}.json"
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fs.write_json(path, directory)


def everywhere(where: paths.Paths) -> set[str]:
    """Digests of the images that any project's lock names. Projects that are gone are forgotten."""
    found: set[str] = set()
    folder = f"{where.data}/locks"
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        directory = fs.read_json(f"{folder}/{name}")
        if not isinstance(directory, str) or not os.path.exists(lockfile.path(directory)):
            fs.remove(f"{folder}/{name}")
            continue
        # One that can't be read is its project's trouble.
        with contextlib.suppress(errors.SpecError):
            for each in lockfile.load(directory).values():
                found |= {each.digest, *each.platforms.values()}
    return found


def moves(wanted: reference.Reference) -> bool:
    return wanted.transport is reference.Transport.REGISTRY and not wanted.digest


def locked(target: descriptor.Descriptor, data: bytes, read: manifest.Read) -> lockfile.Locked:
    """``data`` is the index or manifest that ``target`` says; ``read`` gets a manifest's config."""
    what = f"image {target.digest}"
    if target.media_type in descriptor.INDEXES:
        inner = manifest.parse_index(data, target, what=what)
        # Attestations stand beside the images as unknown/unknown.
        platforms = {
            str(each.platform): each.digest
            for each in inner
            if each.platform and each.platform.os not in {"", "unknown"}
        }
        return lockfile.Locked(target.digest, platforms)
    config = content.parse_json(read(manifest.parse(data, target, what=what).config), what=what)
    platform = descriptor.Platform(*(str(config.get(name) or "") for name in ("os", "architecture", "variant")))
    return lockfile.Locked(target.digest, {str(platform): target.digest} if platform.architecture else {})
