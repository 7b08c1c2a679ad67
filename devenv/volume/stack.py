"""A volume that shares its data with snapshots: an overlay, whose lower layers never change again.

    <data>/snapshots/<project>/layers/<id>/   what was written until a snapshot was taken
    <data>/volumes/<project>/<name>/
        stack.json       {"lower": [ids, the topmost first], "upper": "upper.<hex>", "origin": "_data"}
        upper.<hex>/     what is written since; work.<hex>/ is overlayfs' own
        _data/           where the overlay is mounted, in the machine's mount namespace: all containers of a volume
                         have to be on one mount, or they would not see each other's files

A volume without ``stack.json`` is a folder as any other. Freezing it is one rename: what was ``_data``, or the upper
folder, becomes a layer. ``stack.json`` is written first, and says by ``origin`` what is still to be renamed, so that
whoever comes after a kill finishes it. Nobody may use the volume meanwhile: a process that has files open would go
on writing to the layer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from devenv import errors
from devenv.linux import mount, rename, syncfs
from devenv.util import fs, lock, tree

DATA = "_data"
# Layers that a volume may have before a snapshot makes one of them: each is looked through for a name that isn't there.
DEEP = 64
# The kernel's own end is 500 (OVL_MAX_STACK), and 200 or so before Linux 6.5.
DEEPEST = 180

_SOURCE = "devenv-volume"
_WORD = 256  # bytes, with its NUL, that fsconfig(2) takes for a string


class Stack(NamedTuple):
    lower: tuple[str, ...]  # ids of layers, the topmost first
    upper: str
    origin: str = ""  # what becomes the topmost layer, if it isn't there yet

    @property
    def work(self) -> str:
        return self.upper.replace("upper", "work")


def load(folder: str) -> Stack | None:
    """None for a volume that is one folder."""
    found = fs.read_json(f"{folder}/stack.json")
    return Stack(tuple(found["lower"]), found["upper"], found.get("origin") or "") if isinstance(found, dict) else None


def is_mounted(folder: str) -> bool:
    return os.path.ismount(f"{folder}/{DATA}")


def mounted(folder: str, layers: str) -> None:
    """Make ``_data`` what the volume has, if it isn't. ``layers`` is the project's folder of them."""
    if load(folder) is None:
        return
    # Containers start side by side, and two overlays on one upper folder would each see half of what is written.
    with lock.held(f"{folder}/lock"):
        found = settle(folder, layers)
        if found is not None:
            _mount_whole(folder, layers, found)


def _mount_whole(folder: str, layers: str, found: Stack) -> None:
    if is_mounted(folder):
        return
    lower = [f"{layers}/{each}" for each in found.lower]
    try:
        _mount(lower, f"{folder}/{found.upper}", f"{folder}/{found.work}", f"{folder}/{DATA}")
    except OSError as exc:
        raise errors.VolumeError(
            f"the volume `{os.path.basename(folder)}` can't be put together from its snapshots: {exc.strerror}",
            hint="only root can; the kernel's log says more: dmesg | tail",
        ) from exc


def show(lower: Sequence[str], place: str) -> None:
    """Mount layers at ``place``, to read."""
    _mount(lower, "", "", place)


def _mount(lower: Sequence[str], upper: str, work: str, place: str) -> None:
    """Without ``upper`` nothing can be written to it."""
    with contextlib.ExitStack() as opened:

        def name(path: str) -> str:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        layers = [name(path) for path in lower]
        options = {"upperdir": name(upper), "workdir": name(work)} if upper else {}
        # Folders that are in a layer can be renamed; whatever mounts layers of ours says the same.
        options |= {"index": "off", "metacopy": "off", "redirect_dir": "on"}
        try:
            tree = _made(layers, options)
        except OSError as exc:
            if exc.errno != errno.EINVAL or len(":".join(layers)) < _WORD:
                raise
            # Before kernel 6.5 so many fit only into the page of mount(2).
            told = ",".join(f"{key}={value}" for key, value in {"lowerdir": ":".join(layers), **options}.items())
            mount.mount(_SOURCE, place, "overlay", 0, told)
            return
        opened.callback(os.close, tree)
        mount.move_mount(tree, "", mount.AT_FDCWD, place, mount.MOVE_MOUNT_F_EMPTY_PATH)


def _made(layers: Sequence[str], options: Mapping[str, str]) -> int:
    """A mount that stands nowhere yet."""
    context = mount.fsopen("overlay")
    try:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "source", _SOURCE)
        together = ":".join(layers)
        if len(together) < _WORD:
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir", together)
        else:
            for layer in layers:
                mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir+", layer)
        for key, value in options.items():
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, key, value)
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
        return mount.fsmount(context, 0)
    finally:
        os.close(context)


def possible(folder: str) -> bool:
    """Whether this machine mounts an overlay whose layers are in ``folder``. Tried."""
    place = f"{folder}/.try-{os.urandom(4).hex()}"
    try:
        for name in ("lower", "upper", "work"):
            os.makedirs(f"{place}/{name}", mode=0o700)
        os.close(_made([f"{place}/lower"], {"upperdir": f"{place}/upper", "workdir": f"{place}/work"}))
        return True
    except OSError:
        return False
    finally:
        tree.remove(place)


def unmounted(folder: str) -> None:
    if not is_mounted(folder):
        return
    try:
        mount.umount2(f"{folder}/{DATA}", 0)
    except OSError as exc:
        hint = f"something outside of containers is in it: fuser -vm {folder}/{DATA}"
        raise errors.VolumeError(
            f"the volume `{os.path.basename(folder)}` can't be unmounted: {exc.strerror}",
            hint=hint if exc.errno == errno.EBUSY else None,
        ) from exc


def settle(folder: str, layers: str) -> Stack | None:
    """Finish what a killed ``freeze`` had begun."""
    found = load(folder)
    if found is None:
        return None
    if found.origin and not os.path.lexists(f"{layers}/{found.lower[0]}") and not is_mounted(folder):
        os.rename(f"{folder}/{found.origin}", f"{layers}/{found.lower[0]}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{folder}/{DATA}", 0o700)
    return found


def freeze(folder: str, layers: str) -> tuple[str, ...]:
    """What the volume has becomes layers, which are returned. It is unmounted, and nobody uses it."""
    found = settle(folder, layers)
    if found is not None and _is_untouched(f"{folder}/{found.upper}", f"{layers}/{found.lower[0]}"):
        return found.lower
    origin = DATA if found is None else found.upper
    made = fs.unique()
    _put(folder, Stack((made, *(found.lower if found else ())), "", origin), like=f"{folder}/{origin}")
    settle(folder, layers)
    if found is not None:
        tree.remove(f"{folder}/{found.work}")
    return (made, *(found.lower if found else ()))


def switch(folder: str, layers: str, lower: Sequence[str]) -> None:
    """Let the volume have what is in ``lower``, in one step. It is unmounted, nobody uses it, and what it had is
    frozen or not wanted."""
    found = settle(folder, layers)
    _put(folder, Stack(tuple(lower), ""), like=f"{layers}/{lower[0]}")
    if found is not None:
        for name in (found.upper, found.work):
            tree.remove(f"{folder}/{name}")


def flatten(folder: str, layers: str, copy: Callable[[str, int], None]) -> None:
    """Make the volume one folder again. Nobody uses it. Killed anywhere, it is the one or the other."""
    made = f"{folder}/flat"
    with lock.held(f"{folder}/lock"):
        found = settle(folder, layers)
        if found is None:
            return
        tree.remove(made)
        os.mkdir(made, 0o700)
        # As it is mounted for any container: what a kill leaves is nothing unusual.
        _mount_whole(folder, layers, found)
        try:
            source = os.open(f"{folder}/{DATA}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                copy(made, source)
                syncfs.syncfs(source)
            finally:
                os.close(source)
        finally:
            unmounted(folder)
        # A kill behind this leaves the overlay over the copy.
        rename.exchange(made, f"{folder}/{DATA}")
        fs.remove(f"{folder}/stack.json")
        for name in ("flat", found.upper, found.work):
            tree.remove(f"{folder}/{name}")


def _put(folder: str, wanted: Stack, *, like: str) -> None:
    """Write ``stack.json`` with a fresh upper folder, whose owner and mode are those of the volume's root."""
    mark = os.urandom(4).hex()
    wanted = wanted._replace(upper=f"upper.{mark}")
    os.mkdir(f"{folder}/{wanted.work}", 0o700)
    os.mkdir(f"{folder}/{wanted.upper}", 0o700)
    status = os.stat(like)
    os.chown(f"{folder}/{wanted.upper}", status.st_uid, status.st_gid)
    os.chmod(f"{folder}/{wanted.upper}", stat.S_IMODE(status.st_mode))
    record = {"lower": list(wanted.lower), "upper": wanted.upper, "origin": wanted.origin}
    fs.write_json(f"{folder}/stack.json", record, durable=True)


def _is_untouched(upper: str, below: str) -> bool:
    """Nothing was written since, and the root is as it was."""
    above, under = os.stat(upper), os.stat(below)
    same = (above.st_uid, above.st_gid, above.st_mode) == (under.st_uid, under.st_gid, under.st_mode)
    return same and not os.listdir(upper)
