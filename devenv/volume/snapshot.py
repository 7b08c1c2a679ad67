"""Snapshots of a project's volumes and containers: what each had at one moment, by the layers that it consisted of.

    <data>/snapshots/<project-id>/
        lock                 held by who changes anything here
        <name>.json          when, why, and for each volume its layers, the topmost first, and its labels
        layers/<id>/         see devenv.volume.stack; or, where a copy was made, a volume's whole content

A layer is removed once neither a snapshot nor a volume names it. A snapshot names its layers before they are moved
to their place when their volume is removed, and after they are in their place otherwise: the data is always
somewhere that something names.

Before data is removed or replaced it becomes a snapshot by itself; the last ``KEPT`` of those are kept.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from devenv import errors
from devenv.linux import mount, namespace, reflink, rename, syncfs
from devenv.util import fs, lock, paths, tree
from devenv.volume import stack, volume

KEPT = 3
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_AUTOMATIC = "auto-"

Copy = Callable[[str, int], None]  # into an empty folder, what a descriptor's folder has
Unpack = Callable[[str, str], None]  # a part of something, as `_data` in a folder


class Kept(NamedTuple):
    layers: tuple[str, ...]
    labels: Mapping[str, str] = {}


class Box(NamedTuple):
    """A container's writable layer: a folder for each overlay that its root is made of."""

    image: str  # the id of the one below
    folders: tuple[str, ...]  # paths while it is there, ids of layers in a snapshot
    pending: bool = False  # it is just being replaced: what the layers have is not yet what it had


class Snapshot(NamedTuple):
    name: str
    created: float
    why: str = ""  # of one that was taken by itself: before what
    volumes: Mapping[str, Kept] = {}
    anonymous: Mapping[str, tuple[str, str]] = {}  # volume -> whose it was: service-number, and where mounted
    containers: Mapping[str, Box] = {}  # by service-number

    @property
    def automatic(self) -> bool:
        return bool(self.why)


Boxes = Mapping[str, Box]
_NO_BOXES: Boxes = types.MappingProxyType({})


def automatic_name(now: float) -> str:
    return f"{_AUTOMATIC}{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now % 1 * 1000):03}"


class SnapshotStore:
    """One project's."""

    def __init__(self, where: paths.Paths, project_id: str) -> None:
        self._folder = f"{where.data}/snapshots/{project_id}"
        self.layers = f"{self._folder}/layers"
        self._volumes = where.volumes(project_id)
        self._store = volume.VolumeStore(where, project_id)

    def folder(self, name: str) -> str:
        """The volume's."""
        return f"{self._volumes}/{name}"

    def kept_volumes(self) -> list[str]:
        """Names of volumes that snapshots are of: not of folders and filesystems that are somebody else's."""
        return [each.name for each in self._store.list() if not each.anonymous and not each.driver_opts]

    # -- looking -----------------------------------------------------------------------------------------------

    def list(self) -> list[Snapshot]:
        """The oldest first."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        found = [self.get(name.removesuffix(".json")) for name in names if name.endswith(".json")]
        return sorted((each for each in found if each), key=lambda each: (each.created, each.name))

    def get(self, name: str) -> Snapshot | None:
        found = fs.read_json(f"{self._folder}/{name}.json") if _NAME.fullmatch(name) else None
        if not isinstance(found, dict):
            return None
        volumes = {
            key: Kept(tuple(kept["layers"]), kept.get("labels") or {}) for key, kept in sorted(found["volumes"].items())
        }
        boxes = {
            key: Box(box["image"], tuple(box["folders"]), bool(box.get("pending")))
            for key, box in sorted((found.get("containers") or {}).items())
        }
        anonymous = {key: (whose[0], whose[1]) for key, whose in (found.get("anonymous") or {}).items()}
        return Snapshot(name, found["created"], found.get("why") or "", volumes, anonymous, boxes)

    def last_automatic(self) -> Snapshot | None:
        """A removal that was cut short before anything was removed has left one without data."""
        whole = [
            each
            for each in self.list()
            if each.automatic
            and all(map(self._has, each.volumes.values()))
            and (each.volumes or not all(box.pending for box in each.containers.values()))
        ]
        return whole[-1] if whole else None

    def _has(self, kept: Kept) -> bool:
        return all(os.path.isdir(f"{self.layers}/{each}") for each in kept.layers)

    def find(self, name: str) -> Snapshot:
        found = self.get(name)
        if found is None:
            raise errors.VolumeError(f"there is no snapshot `{name}`", hint="`devenv snapshot ls` lists them")
        return found

    def check_new(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name.startswith(_AUTOMATIC):
            raise errors.VolumeError(
                f"`{name}` is no name for a snapshot",
                hint=f"letters, digits, `_`, `.` and `-`, and not `{_AUTOMATIC}` in front, which those have that are "
                "taken by themselves",
            )
        if self.get(name) is not None:
            raise errors.VolumeError(f"snapshot `{name}` is there already", hint=f"devenv snapshot rm {name}")

    # -- how ---------------------------------------------------------------------------------------------------

    def shares_blocks(self) -> bool:
        """Whether files can be copied without their data (btrfs, xfs). Tried."""
        os.makedirs(self.layers, mode=0o700, exist_ok=True)
        names = [f"{self._folder}/.try-{os.urandom(4).hex()}" for _ in range(2)]
        opened = [os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600) for name in names]
        try:
            os.write(opened[0], b"\0" * 4096)
            reflink.clone(*opened)
            return True
        except OSError:
            return False
        finally:
            for descriptor in opened:
                os.close(descriptor)
            for name in names:
                os.unlink(name)

    def stacks(self) -> bool:
        """Whether a volume can be an overlay: in an ordinary user's, folders of layers can't be renamed (EXDEV)."""
        os.makedirs(self.layers, mode=0o700, exist_ok=True)
        return namespace.in_initial_user_namespace() and stack.possible(self._folder)

    @contextlib.contextmanager
    def shown(self, layers: Sequence[str]) -> Iterator[str]:
        """What they make up together, to read."""
        below = [f"{self.layers}/{each}" for each in layers]
        if len(below) == 1:
            yield below[0]
            return
        place = f"{self._folder}/.shown-{os.urandom(4).hex()}"
        os.mkdir(place, 0o700)
        try:
            stack.show(below, place)
            yield place
        finally:
            with contextlib.suppress(OSError):
                mount.umount2(place, mount.MNT_DETACH)
            os.rmdir(place)

    # -- changing ----------------------------------------------------------------------------------------------

    def freeze(
        self,
        snapshot: Snapshot,
        names: Iterable[str],
        copy: Copy,
        boxes: Boxes = _NO_BOXES,
        duplicate: Copy | None = None,
    ) -> Snapshot:
        """Keep ``names`` by renaming, and ``boxes`` by copying. Nobody uses them. ``copy``: where layers are many."""
        with self._held():
            snapshot = self._boxed(snapshot, boxes, duplicate)
            kept = {}
            for name in names:
                stack.unmounted(self.folder(name))
                kept[name] = Kept(self._frozen(name, copy), self._labels(name))
            return self._write(snapshot._replace(volumes=kept))

    def _frozen(self, name: str, copy: Copy) -> tuple[str, ...]:
        found = stack.load(self.folder(name))
        if found is not None and len(found.lower) >= stack.DEEPEST:
            raise errors.VolumeError(
                f"the volume `{name}` has {len(found.lower)} layers, and there was no room to make one of them",
                hint="`devenv snapshot rm` of what is not needed gives room",
            )
        layers = stack.freeze(self.folder(name), self.layers)
        flat = self._flat(layers, copy)
        if flat != layers:
            stack.switch(self.folder(name), self.layers, flat)
        return flat

    def _flat(self, layers: tuple[str, ...], copy: Copy) -> tuple[str, ...]:
        """One layer with what they make up together, where they are too many; as they are, where there is no room."""
        if len(layers) <= stack.DEEP:
            return layers
        try:
            with self.shown(layers) as place:
                made = self._copied(place, copy)
        except errors.VolumeError:
            return layers
        self._flush()
        return (made,)

    def copy(
        self,
        snapshot: Snapshot,
        names: Iterable[str],
        copy: Copy,
        boxes: Boxes = _NO_BOXES,
        duplicate: Copy | None = None,
    ) -> Snapshot:
        """Keep ``names`` and ``boxes`` by copying. Nobody writes to them."""
        with self._held():
            snapshot = self._boxed(snapshot, boxes, duplicate)
            kept = {}
            for name in names:
                if stack.load(self.folder(name)):
                    stack.mounted(self.folder(name), self.layers)
                kept[name] = Kept((self._copied(f"{self.folder(name)}/{stack.DATA}", copy),), self._labels(name))
            return self._write(snapshot._replace(volumes=kept))

    def _boxed(self, snapshot: Snapshot, boxes: Boxes, duplicate: Copy | None) -> Snapshot:
        if duplicate is None:
            return snapshot
        made = {
            key: Box(box.image, tuple(self._copied(folder, duplicate) for folder in box.folders))
            for key, box in boxes.items()
        }
        return snapshot._replace(containers=made)

    def refill(self, snapshot: Snapshot, boxes: Boxes, before: Snapshot, duplicate: Copy) -> None:
        """Let containers, which don't run, have the layers that were kept of them; ``before`` gets what they have.

        Killed anywhere, what a container had is in its place or named by ``before``.
        """
        with self._held():
            for key, box in boxes.items():
                layers = tuple(
                    self._copied(f"{self.layers}/{each}", duplicate) for each in snapshot.containers[key].folders
                )
                known = self.get(before.name) or before
                self._write(known._replace(containers={**known.containers, key: Box(box.image, layers, True)}))
                for layer, folder in zip(layers, box.folders, strict=True):
                    rename.exchange(f"{self.layers}/{layer}", folder)
                self._write(known._replace(containers={**known.containers, key: Box(box.image, layers)}))

    def adopt(self, snapshot: Snapshot, sources: Mapping[str, str], unpack: Unpack) -> Snapshot:
        """A snapshot of volumes whose data is somewhere else: ``sources`` by volume. Nothing is left where it fails."""
        with self._held():
            kept = {}
            try:
                for name, source in sources.items():
                    stage = fs.unique()
                    os.makedirs(f"{self.layers}/{stage}/{stack.DATA}", mode=0o755)
                    unpack(source, f"{self.layers}/{stage}")
                    layer = fs.unique()
                    os.rename(f"{self.layers}/{stage}/{stack.DATA}", f"{self.layers}/{layer}")
                    kept[name] = Kept((layer,))
                self._write(snapshot._replace(volumes=kept))
            finally:
                self.collect()
            return snapshot._replace(volumes=kept)

    def keep_removed(self, name: str, snapshot: Snapshot) -> bool:
        """Remove the volume ``name``, and keep what it had, with others that went before, in ``snapshot``.

        False when nothing was kept, since there was nothing in it or the disk is full.
        """
        found = self._store.get(name)
        try:
            os.makedirs(self.layers, mode=0o700, exist_ok=True)
        except OSError:
            found = None
        if found is None or found.driver_opts:
            self._store.remove(name)
            return False
        with self._held():
            stack.unmounted(self.folder(name))
            source = f"{self.folder(name)}/{stack.DATA}"
            if stack.load(self.folder(name)):
                layers = stack.freeze(self.folder(name), self.layers)
                kept = self._add(snapshot, name, Kept(layers, found.labels))
            else:
                # A plain folder needs no overlay to be kept, and nobody but root could mount one.
                layer = fs.unique()
                kept = bool(os.listdir(source)) and self._add(snapshot, name, Kept((layer,), found.labels))
                if kept:
                    os.rename(source, f"{self.layers}/{layer}")
            self._store.remove(name)
            self._forget_old()
        return kept

    def _add(self, snapshot: Snapshot, name: str, kept: Kept) -> bool:
        """False on a full disk: nothing can be kept there, and room is what is asked for."""
        known = self.get(snapshot.name) or snapshot
        try:
            self._write(known._replace(volumes={**known.volumes, name: kept}))
        except OSError:
            return False
        return True

    def restore(self, snapshot: Snapshot, names: Iterable[str], copy: Copy, *, stacked: bool) -> None:
        """Let volumes have what ``snapshot`` kept of them. Nobody uses them.

        ``forget_old`` removes what they had: for a large file that takes a while, as it leaves the page cache.
        """
        with self._held():
            for name in names:
                kept = snapshot.volumes[name]
                if not self._has(kept):
                    raise errors.VolumeError(f"snapshot `{snapshot.name}` lacks data of the volume `{name}`")
                if self._store.get(name) is None:
                    self._store.ensure(name, labels=kept.labels)
                stack.unmounted(self.folder(name))
                # Of an overlay nothing can be cloned, so a volume becomes one only where that is the way or it is one.
                layered = len(kept.layers) > 1 or stack.load(self.folder(name)) is not None
                if stacked or (layered and self.stacks()):
                    stack.switch(self.folder(name), self.layers, self._flat(kept.layers, copy))
                else:
                    self._exchange(name, kept.layers, copy)

    def _exchange(self, name: str, layers: Sequence[str], copy: Copy) -> None:
        if len(layers) > 1:
            raise errors.VolumeError(
                f"the volume `{name}` was kept in layers, which this machine can't mount", hint="restore it as root"
            )
        made = self._copied(f"{self.layers}/{layers[0]}", copy)
        shared = self.shares_blocks()
        if not shared:
            self._flush()
        rename.exchange(f"{self.layers}/{made}", f"{self.folder(name)}/{stack.DATA}")
        if not shared:
            tree.remove(f"{self.layers}/{made}")  # room for the next copy

    def _flush(self) -> None:
        """Copies are on the disk before what they were made of goes: a power cut would lose both. Clones are ordered
        by the filesystem itself."""
        folder = os.open(self.layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs.syncfs(folder)
        finally:
            os.close(folder)

    def remove(self, name: str) -> None:
        self.find(name)
        with self._held():
            fs.remove(f"{self._folder}/{name}.json")
            self.collect()

    def collect(self) -> None:
        """Remove the layers that nothing names. The caller holds the lock."""
        named = {each for snapshot in self.list() for kept in snapshot.volumes.values() for each in kept.layers}
        named |= {each for snapshot in self.list() for box in snapshot.containers.values() for each in box.folders}
        for each in self._store.list():
            found = stack.load(self.folder(each.name))
            named |= set(found.lower) if found else set()
        for name in os.listdir(self.layers):
            if name not in named:
                tree.remove(f"{self.layers}/{name}")

    def forget_old(self) -> None:
        """Remove automatic snapshots but the last, and layers that nothing names.

        Not before what one of them is restored from is in its place.
        """
        with self._held():
            self._forget_old()

    def _forget_old(self) -> None:
        for each in [each for each in self.list() if each.automatic][:-KEPT]:
            fs.remove(f"{self._folder}/{each.name}.json")
        self.collect()

    def _copied(self, source: str, copy: Copy) -> str:
        """The id of a new layer. A half one has no name that counts, and goes with the next sweep."""
        made = fs.unique()
        os.mkdir(f"{self.layers}/{made}", 0o700)
        folder = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy(f"{self.layers}/{made}", folder)
        except OSError as exc:
            tree.remove(f"{self.layers}/{made}")
            raise errors.VolumeError(f"`{source}` can't be copied: {exc.strerror}") from exc
        finally:
            os.close(folder)
        return made

    def _labels(self, name: str) -> Mapping[str, str]:
        found = self._store.get(name)
        return found.labels if found else {}

    def _write(self, snapshot: Snapshot) -> Snapshot:
        volumes = {
            name: {"layers": list(kept.layers), "labels": dict(kept.labels)} for name, kept in snapshot.volumes.items()
        }
        record = {
            "created": snapshot.created,
            "why": snapshot.why,
            "volumes": volumes,
            "anonymous": dict(snapshot.anonymous),
            "containers": {key: box._asdict() for key, box in snapshot.containers.items()},
        }
        fs.write_json(f"{self._folder}/{snapshot.name}.json", record, durable=True)
        return snapshot

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        os.makedirs(self.layers, mode=0o700, exist_ok=True)
        with lock.held(f"{self._folder}/lock"):
            yield
