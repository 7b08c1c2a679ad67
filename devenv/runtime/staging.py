"""What a container in a user namespace is given by the host: its root as overlays over idmapped layers, its devices.

    layer on disk, of root:root ── idmapped ─┐
    upper/ on disk, of root:root ─ idmapped ─┴▶ overlay, of the container's root ──▶ attached by the container

So files on disk have the ids that they have in the container, whatever range it runs with: nothing is ever chowned, and
the writable layer reads like any other. The overlay is mounted with all the host's rights (it belongs to no user
namespace, and a layer's folders need not be open to the container's root) but with the container's root as its file
system user, in whose name copies are made; the host's root has no id on an idmapped mount (kernel 5.19).

All of it is put together on a tmpfs in a mount namespace that nobody else sees and that is gone when it is done: what
stays are detached trees.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from devenv.linux import mount, namespace
from devenv.linux import process as linux_process
from devenv.runtime import devices, idmap, imagemount
from devenv.runtime.failure import doing


class Staged(NamedTuple):
    overlays: list[int]
    nodes: dict[str, int]  # by their path in the container
    images: dict[int, int]  # mounted beside the root, by the number of the mount


def take(
    overlays: Sequence[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]],
    images: Mapping[int, Mapping[str, Any]],
    *,
    folder: str,
    space: int,
    root: tuple[int, int],
) -> Staged:
    """Detached trees, mapped by the user namespace ``space``, whose 0:0 is ``root`` on the host.

    ``folder`` is any one to mount on. Leaves the caller in a mount namespace of its own, with nothing on ``folder``.
    """
    with doing("preparing the container's root"):
        namespace.unshare(namespace.CLONE_NEWNS)
        mount.mount("none", "/", "", mount.MS_REC | mount.MS_SLAVE)
        mount.mount("tmpfs", folder, "tmpfs", mount.MS_NOEXEC, "mode=700")
    made = _nodes(nodes, folder, root)
    trees = []
    for number, each in enumerate(overlays):
        with doing(f"mounting the image on `{each['target']}` with the ids of the container's user namespace"):
            trees.append(_overlay(each, f"{folder}/{number}", space, root))
    beside = {number: _image(each, f"{folder}/image.{number}", space) for number, each in images.items()}
    mount.umount2(folder, mount.MNT_DETACH)
    return Staged(trees, made, beside)


def _image(entry: Mapping[str, Any], place: str, space: int) -> int:
    with doing(f"mounting an image on `{entry['destination']}` with the ids of the container's user namespace"):
        layers = [_mapped(path, f"{place}.{number}", space) for number, path in enumerate(entry[imagemount.LAYERS])]
        os.mkdir(place)
        return imagemount.tree(entry, place, layers, in_user_namespace=False)


def _overlay(overlay: Mapping[str, Any], place: str, space: int, root: tuple[int, int]) -> int:
    own = os.path.dirname(overlay["upper"])
    if os.path.dirname(overlay["work"]) != own:
        raise OSError(18, "its upper and its work folder have to be in the same one", overlay["work"])
    lower = [_mapped(path, f"{place}.{number}", space) for number, path in enumerate(overlay["lower"])]
    # Both on one mount, or the kernel refuses them.
    writable = _mapped(own, f"{place}.own", space)
    with _filesystem_user(*root):
        context = mount.fsopen("overlay")
        try:
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "source", "overlay")
            _options(context, lower)
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "upperdir", _below(writable, overlay["upper"]))
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "workdir", _below(writable, overlay["work"]))
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "index", "off")
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "metacopy", "off")
            mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
            return mount.fsmount(context, 0)
        finally:
            os.close(context)


def _below(writable: str, path: str) -> str:
    return f"{writable}/{os.path.basename(path)}"


def _options(context: int, lower: list[str]) -> None:
    together = ":".join(lower)
    # One string of fsconfig(2) is shorter than 256 bytes, and a list of single ones needs kernel 6.5.
    if len(together) < 256:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir", together)
        return
    for path in lower:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir+", path)


def _mapped(source: str, place: str, space: int) -> str:
    tree = mount.open_tree(mount.AT_FDCWD, source, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    try:
        idmap.apply(tree, space, source=source)
        os.mkdir(place)
        mount.move_mount(tree, "", mount.AT_FDCWD, place, mount.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)
    return place


@contextlib.contextmanager
def _filesystem_user(uid: int, gid: int) -> Iterator[None]:
    """Files are made as another's, by whom may still do everything: setfsuid(2) takes what is given back here."""
    held = linux_process.permitted()
    linux_process.setfsgid(gid)
    linux_process.setfsuid(uid)
    try:
        linux_process.capset(effective=held, permitted=held, inheritable=0)
        yield
    finally:
        linux_process.setfsuid(os.geteuid())
        linux_process.setfsgid(os.getegid())


def _nodes(entries: Sequence[Mapping[str, Any]], folder: str, root: tuple[int, int]) -> dict[str, int]:
    """Device nodes with their owners as the container sees them. In the user namespace none could be made."""
    found: dict[str, int] = {}
    default = [
        (f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor), (0, 0))
        for major, minor, name in devices.DEFAULT
    ]
    for path, mode, number, owner in [*default, *_described(entries)]:
        place = f"{folder}/node.{len(found)}"
        with doing(f"making the device `{path}`"):
            os.mknod(place, mode, number)
            os.chmod(place, stat.S_IMODE(mode))
            os.chown(place, *(first + own for first, own in zip(root, owner, strict=True)))
            found[path] = mount.open_tree(mount.AT_FDCWD, place, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    return found


def _described(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int, int, tuple[int, int]]]:
    for entry in entries:
        path = os.path.normpath("/" + entry["path"].lstrip("/"))
        with doing(f"adding the device `{entry.get('x-devenv-source') or path}`"):
            mode, number, owner = devices.described(dict(entry))
        if not stat.S_ISFIFO(mode):
            yield path, mode, number, owner
