"""Unpacked layers, shared by all images that have them.

    <data>/layers/<chain-id>/fs             the layer, in overlayfs's form
    <data>/layers/<chain-id>/layer.json     what it took, and what could not be kept
    <data>/stage/<chain-id>/                being unpacked; renamed when whole and verified
    <data>/stage/<chain-id>.lock            held by whoever does; gone afterwards

Unpacking syncs nothing: that would cost more than all the rest. Instead a layer names the boot it was unpacked in,
until ``settle`` has synced the filesystem, once for all layers of an image. One that was not settled before the machine
went down may lack anything, so after another boot it is unpacked again.

A layer goes by its chain id (OCI image specification, "Layer ChainID"), not by its own: what its stream leaves out (the
modes of parent folders, where links lead) comes from the layers below, so the same stream may unpack differently.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import content, lease
from devenv.util import fs, lock, paths, tree

_TRUSTED, _USER = "trusted.overlay.opaque", "user.overlay.opaque"


class Snapshot(NamedTuple):
    chain_id: str  # without its algorithm
    folder: str
    notes: tuple[str, ...]
    empty: bool
    hides_all: bool  # nothing below shows through
    settled: bool  # survives a power cut


def opaque_attribute() -> str:
    """In a user namespace overlayfs is mounted with ``userxattr`` and looks for another name: mount(2) there can't
    read ``trusted.*``."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return _TRUSTED if file.read().split() == ["0", "0", "4294967295"] else _USER


def chain(diff_ids: list[str]) -> list[str]:
    found: list[str] = []
    for diff_id in diff_ids:
        if not found:
            found.append(diff_id)
        else:
            found.append("sha256:" + hashlib.sha256(f"{found[-1]} {diff_id}".encode()).hexdigest())
    return [chain_id.removeprefix("sha256:") for chain_id in found]


def prepare(where: paths.Paths, image: content.Content, *, held: lease.Lease, what: str) -> list[Snapshot]:
    """Every layer of the image, unpacked; the lowest first."""
    sweep(where)
    made: list[Snapshot] = []
    chain_ids = chain([each.diff_id for each in image.layers])
    held.add(*chain_ids)
    for chain_id, each in zip(chain_ids, image.layers, strict=True):
        made.append(_ensure(where, chain_id, each, lower=visible(made), what=what))
    return made


def visible(snapshots: list[Snapshot]) -> tuple[str, ...]:
    """What is mounted, the topmost first: not the empty ones, nothing below one that hides all."""
    found = []
    for each in reversed(snapshots):
        if not each.empty:
            found.append(each.folder)
        if each.hides_all:
            break
    # overlayfs needs a folder to show, be it an empty one.
    return tuple(found) or tuple(each.folder for each in snapshots[-1:])


def load(where: paths.Paths, chain_id: str) -> Snapshot | None:
    folder = f"{where.data}/layers/{chain_id}"
    record: Any = fs.read_json(f"{folder}/layer.json")
    if not isinstance(record, dict) or record.get("boot") not in {None, boot_id()}:
        return None
    settled = record.get("boot") is None
    try:
        return Snapshot(chain_id, f"{folder}/fs", tuple(record["notes"]), record["empty"], record["hides_all"], settled)
    except (KeyError, TypeError):
        return None


def settle(where: paths.Paths, snapshots: Iterable[Snapshot]) -> None:
    """Make them survive a power cut. Takes as long as the disk needs for what was written."""
    waiting = [each for each in snapshots if not each.settled]
    if not waiting:
        return
    from devenv.linux import syncfs

    with contextlib.suppress(OSError):  # a layer that was collected meanwhile needs nothing
        folder = os.open(f"{where.data}/layers", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs.syncfs(folder)
        finally:
            os.close(folder)
        for each in waiting:
            path = f"{where.data}/layers/{each.chain_id}/layer.json"
            record = fs.read_json(path)
            if isinstance(record, dict) and record.pop("boot", None) == boot_id():
                fs.write_json(path, record)


@functools.cache
def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def size(folder: str) -> int:
    """In bytes, of the files of an unpacked layer."""
    record: Any = fs.read_json(f"{folder}/layer.json")
    found = record.get("size") if isinstance(record, dict) else None
    return found if isinstance(found, int) else 0


def adopt(where: paths.Paths, chain_id: str, folder: str, *, diff_id: str, entries: int, size: int) -> Snapshot:
    """``folder`` is a layer already, as overlayfs left it on top of those below: it becomes ours and is gone then.

    It is on our filesystem, and nobody changes it any more. The lease has the chain id.
    """
    with _locked(where, chain_id):
        found = load(where, chain_id)
        if found is None:
            stage = f"{where.data}/stage/{chain_id}"
            tree.remove(stage)
            os.mkdir(stage, 0o700)
            try:
                os.rename(folder, f"{stage}/fs")
                fs.write_json(f"{stage}/layer.json", _record(diff_id, entries=entries, size=size))
                _discard(where, chain_id)
                os.rename(stage, f"{where.data}/layers/{chain_id}")
            finally:
                tree.remove(stage)
            found = load(where, chain_id)
    assert found is not None
    return found


def _record(diff_id: str, *, entries: int, size: int, notes: Sequence[str] = (), hides_all: bool = False) -> Any:
    return {
        "diff_id": diff_id,
        "boot": boot_id(),
        "entries": entries,
        "size": size,
        "notes": notes,
        "empty": entries == 0,
        "hides_all": hides_all,
    }


def _ensure(where: paths.Paths, chain_id: str, wanted: content.Layer, *, lower: tuple[str, ...], what: str) -> Snapshot:
    found = load(where, chain_id)
    if found is not None:
        return found
    with _locked(where, chain_id):
        found = load(where, chain_id)
        if found is None:
            _unpack(where, chain_id, wanted, lower=lower, what=what)
            found = load(where, chain_id)
    if found is None:
        raise errors.ImageError(
            f"image `{what}`: the unpacked layer {chain_id} is broken",
            hint=f"remove it: rm -r {where.data}/layers/{chain_id}",
        )
    return found


@contextlib.contextmanager
def _locked(where: paths.Paths, chain_id: str) -> Iterator[None]:
    for name in ("layers", "stage"):
        os.makedirs(f"{where.data}/{name}", mode=0o700, exist_ok=True)
    path = f"{where.data}/stage/{chain_id}.lock"
    held = lock.acquire(path, wait=True)
    assert held is not None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)  # who waits for it sees that it is gone, and makes a new one
        os.close(held)


def _unpack(where: paths.Paths, chain_id: str, wanted: content.Layer, *, lower: tuple[str, ...], what: str) -> None:
    from devenv.image import layer, tar, unpack

    stage = f"{where.data}/stage/{chain_id}"
    name = f"layer {wanted.digest or wanted.diff_id}"
    try:
        tree.remove(stage)
        os.makedirs(f"{stage}/fs", mode=0o700)
        record = _fill(f"{stage}/fs", wanted, lower=lower)
        fs.write_json(f"{stage}/layer.json", record)
        _discard(where, chain_id)
        os.rename(stage, f"{where.data}/layers/{chain_id}")
    except (tar.TarError, unpack.UnpackError) as exc:
        raise errors.ImageError(f"image `{what}`: {name} is refused: {exc}") from exc
    except layer.LayerError as exc:
        raise errors.ImageError(f"image `{what}`: {name} {exc}", hint="copy the image again") from exc
    except FileNotFoundError as exc:
        raise errors.ImageError(f"image `{what}`: {name}: `{exc.filename}` is missing") from exc
    except OSError as exc:
        hint = f"df -h {where.data}" if exc.errno in {errno.ENOSPC, errno.EDQUOT} else None
        raise errors.ImageError(f"image `{what}`: {name} can't be unpacked: {exc.strerror}", hint=hint) from exc
    finally:
        with contextlib.suppress(OSError):
            tree.remove(stage)


def _discard(where: paths.Paths, chain_id: str) -> None:
    """What a power cut or somebody's hand left of a layer."""
    trash = f"{where.data}/trash/{chain_id}.{os.urandom(4).hex()}"
    with contextlib.suppress(FileNotFoundError):
        os.makedirs(f"{where.data}/trash", mode=0o700, exist_ok=True)
        os.rename(f"{where.data}/layers/{chain_id}", trash)
        tree.remove(trash)


def _fill(root: str, wanted: content.Layer, *, lower: tuple[str, ...]) -> Any:
    from devenv.image import below, layer, unpack

    opaque = opaque_attribute()
    unpacker = unpack.Unpacker(root, below.Below(lower, opaque=opaque), opaque=opaque)
    with contextlib.closing(unpacker), layer.Stream(wanted) as stream:
        unpacker.run(stream.chunks())
        notes = [f"{text} ({count} times)" if count > 1 else text for text, count in sorted(unpacker.notes.items())]
        return _record(
            wanted.diff_id,
            entries=unpacker.entries,
            size=unpacker.size,
            notes=notes,
            hides_all=unpacker.hides_all,
        )


def sweep(where: paths.Paths) -> None:
    """Remove what unpacking that was killed left behind: nobody holds its lock."""
    stage = f"{where.data}/stage"
    try:
        names = os.listdir(stage)
    except FileNotFoundError:
        return
    for name in names:
        if len(name.removesuffix(".lock")) != 64:
            continue
        path = f"{stage}/{name.removesuffix('.lock')}"
        held = lock.acquire(f"{path}.lock", wait=False)
        if held is None:
            continue
        try:
            tree.remove(path)
            with contextlib.suppress(OSError):
                os.unlink(f"{path}.lock")
        finally:
            os.close(held)
