"""What a step leaves on top of what was there becomes a layer: a tar blob in the store, and the same files unpacked.

    <data>/blobs/sha256/<diff_id>     the stream, not compressed: that is done when it is pushed or saved
    <data>/layers/<chain-id>/         the step's own folder, renamed

Nothing is unpacked again. Killed anywhere in between, what is there is whole; what nobody names goes with the next
collection.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from devenv.build import context
from devenv.image import below, blobs, content, descriptor, difference, lease, pack, snapshot
from devenv.image import config as image_config
from devenv.linux import mount, namespace
from devenv.runtime import overlay
from devenv.util import paths


class Layer(NamedTuple):
    diff_id: str
    blob: descriptor.Descriptor
    created: str = ""  # as an image's history has it; "" for a base's


State = tuple[Layer, ...]  # a root filesystem; the lowest first


class Tools(NamedTuple):
    """What making and mounting layers takes."""

    where: paths.Paths
    blobs: blobs.BlobStore
    held: lease.Lease

    @property
    def empty(self) -> str:
        """A folder to lie beneath what begins from scratch: overlayfs wants one."""
        folder = f"{self.where.data}/build/empty"
        os.makedirs(folder, mode=0o755, exist_ok=True)
        return folder


def chain_id(state: State) -> str:
    """Without its algorithm; "" for an empty root."""
    return snapshot.chain([each.diff_id for each in state])[-1] if state else ""


def lower(tools: Tools, state: State) -> tuple[str, ...]:
    """Folders that show the root filesystem, the topmost first: unpacked if they are not yet."""
    if not state:
        return (tools.empty,)
    given = tuple(content.Layer(tools.blobs.source(each.blob), each.diff_id) for each in state)
    found = content.Content("", image_config.ImageConfig(), given)
    return snapshot.visible(snapshot.prepare(tools.where, found, held=tools.held, what="the build's"))


def look(folders: Sequence[str]) -> below.Below:
    return below.Below(folders, opaque=snapshot.opaque_attribute())


def start(folder: str, lower: Sequence[str]) -> str:
    """A step's own layer, empty, in its folder. Its root looks as the one below."""
    upper = f"{folder}/upper"
    os.mkdir(upper, 0o755)
    os.mkdir(f"{folder}/work", 0o700)
    _like(upper, os.stat(lower[0]))
    return upper


def writable(folder: str, lower: Sequence[str]) -> int:
    """A descriptor of what a step sees: ``lower`` with the folder's ``upper`` on top. Mounted nowhere."""
    found = mount.fsopen("overlay")
    try:
        inside = not namespace.in_initial_user_namespace()
        overlay.add_layers(found, lower, in_user_namespace=inside)
        mount.fsconfig(found, mount.FSCONFIG_SET_STRING, "upperdir", f"{folder}/upper")
        mount.fsconfig(found, mount.FSCONFIG_SET_STRING, "workdir", f"{folder}/work")
        mount.fsconfig(found, mount.FSCONFIG_CMD_CREATE)
        return mount.fsmount(found, 0)
    finally:
        os.close(found)


def shown(tools: Tools, state: State) -> int:
    """A descriptor of what a root filesystem shows, read-only."""
    return context.merged(lower(tools, state), in_user_namespace=not namespace.in_initial_user_namespace())


def commit(tools: Tools, state: State, folder: str, *, lower: Sequence[str], epoch: int | None, created: str) -> Layer:
    """The layer of ``<folder>/upper`` over ``state``; ``epoch`` is the youngest that a file may be."""
    upper = f"{folder}/upper"
    _like(upper, os.stat(lower[0]))
    _tidy(os.fsencode(upper), epoch)
    counted = pack.Counted(upper, opaque=snapshot.opaque_attribute())
    digest, size = hashlib.sha256(), 0
    path = f"{folder}/layer.tar"
    with open(path, "xb") as file:
        for chunk in counted.chunks():
            digest.update(chunk)
            size += file.write(chunk)
    diff_id = f"sha256:{digest.hexdigest()}"
    layer = Layer(diff_id, descriptor.Descriptor(descriptor.OCI_LAYER, diff_id, size), created)
    name = chain_id((*state, layer))
    tools.held.add(name)
    tools.blobs.adopt(layer.blob, path, held=tools.held)
    snapshot.adopt(tools.where, name, upper, diff_id=diff_id, entries=counted.entries, size=counted.size)
    return layer


def _like(folder: str, status: os.stat_result) -> None:
    """A layer can't say how the root looks, so it stays as it was."""
    with contextlib.suppress(OSError):  # ids that a user namespace does not map stay ours
        os.chown(folder, status.st_uid, status.st_gid)
    os.chmod(folder, stat.S_IMODE(status.st_mode))
    os.utime(folder, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _tidy(folder: bytes, epoch: int | None) -> None:
    """Without what no layer can have, sockets; and nothing younger than ``epoch``."""
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            _tidy(entry.path, epoch)
        elif stat.S_ISSOCK(status.st_mode):
            os.unlink(entry.path)
            continue
        if epoch is not None and status.st_mtime_ns > epoch * 10**9 and not difference.is_whiteout(status):
            os.utime(entry.path, (epoch, epoch), follow_symlinks=False)


# -- places that were made to mount something on ---------------------------------------------------------------------

Parts = tuple[bytes, ...]


def missing(shown: below.Below, target: str) -> list[Parts]:
    """The paths that a mount at ``target`` makes in the root filesystem, the outermost first."""
    parts = resolve(shown, target)
    return [parts[:count] for count in range(1, len(parts) + 1) if shown.find(parts[:count]) is None]


def resolve(shown: below.Below, path: str) -> Parts:
    """Where a path leads, with no link left in it, as the kernel goes within that root."""
    pending = [part for part in os.fsencode(path).split(b"/") if part not in {b"", b"."}]
    found: list[bytes] = []
    links = 0
    while pending:
        part = pending.pop(0)
        if part == b"..":
            del found[-1:]
            continue
        seen = shown.find((*found, part))
        if seen is not None and stat.S_ISLNK(seen.status.st_mode) and links < 40:
            links += 1
            target = os.readlink(seen.path)
            if target.startswith(b"/"):
                found = []
            pending = [each for each in target.split(b"/") if each not in {b"", b"."}] + pending
        elif part:
            found.append(part)
    return tuple(found)


def beneath(lower: Sequence[str], parts: Parts) -> tuple[str, ...]:
    """The folders that show one folder of a root filesystem, the topmost first; ``parts`` has no links."""
    found = []
    for layer in lower:
        path, hides, there = os.fsencode(layer), False, True
        for part in parts:
            path = path + b"/" + part
            try:
                status = os.lstat(path)
            except OSError:
                there = False
                break
            if not stat.S_ISDIR(status.st_mode):
                there, hides = False, True
                break
            hides = hides or difference.is_opaque(path, snapshot.opaque_attribute())
        if there:
            found.append(os.fsdecode(path))
        if hides:
            break
    return tuple(found)


def remove_places(upper: str, shown: below.Below, made: Sequence[Parts]) -> None:
    """Afterwards: what is still empty goes, and a folder above that was touched for nothing but this is untouched.

    ``shown`` is what was there before the step.
    """
    top = os.fsencode(upper)
    for parts in sorted(made, key=len, reverse=True):
        path = b"/".join((top, *parts))
        try:
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(path)
            elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
                os.unlink(path)
        except OSError:
            continue  # somebody filled or removed it
        _untouch(top, shown, parts[:-1])


def _untouch(top: bytes, shown: below.Below, parts: Parts) -> None:
    while parts:
        path, before = b"/".join((top, *parts)), shown.find(parts)
        if (
            before is None
            or not _same(os.lstat(path), before.status)
            or difference.is_opaque(path, snapshot.opaque_attribute())
        ):
            return
        try:
            os.rmdir(path)
        except OSError:
            return
        parts = parts[:-1]


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)
