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
from collections.abc import Sequence
from typing import NamedTuple

from devenv import errors
from devenv.linux import mount
from devenv.util import fs, lock, tree

DATA = "_data"


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
        if found is None or is_mounted(folder):
            return
        lower = [f"{layers}/{each}" for each in found.lower]
        try:
            _attach(_overlay(lower, f"{folder}/{found.upper}", f"{folder}/{found.work}"), f"{folder}/{DATA}")
        except OSError as exc:
            raise errors.VolumeError(
                f"the volume `{os.path.basename(folder)}` can't be put together from its snapshots: {exc.strerror}",
                hint="only root can; the kernel's log says more: dmesg | tail",
            ) from exc


def _attach(tree: int, place: str) -> None:
    try:
        mount.move_mount(tree, "", mount.AT_FDCWD, place, mount.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def show(lower: Sequence[str], place: str) -> None:
    """Mount layers at ``place``, to read."""
    _attach(_overlay(lower, "", ""), place)


def _overlay(lower: Sequence[str], upper: str, work: str) -> int:
    """A mount that stands nowhere yet; without ``upper`` nothing can be written to it."""
    context = mount.fsopen("overlay")
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, context)
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "source", "devenv-volume")
        # One string has at most 255 bytes (fsconfig(2)), and lists of single ones need kernel 6.5.
        names = []
        for path in lower:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            names.append(f"/proc/self/fd/{fd}")
        together = ":".join(names)
        if len(together) < 256:
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir", together)
        else:
            for name in names:
                mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir+", name)
        for key, path in (("upperdir", upper), ("workdir", work)) if upper else ():
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, key, f"/proc/self/fd/{fd}")
        # Folders that are in a layer can be renamed; whatever mounts layers of ours says the same.
        for key, value in (("index", "off"), ("metacopy", "off"), ("redirect_dir", "on")):
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, key, value)
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
        return mount.fsmount(context, 0)


def possible(folder: str) -> bool:
    """Whether this machine mounts an overlay whose layers are in ``folder``. Tried."""
    place = f"{folder}/.try-{os.urandom(4).hex()}"
    try:
        for name in ("lower", "upper", "work"):
            os.makedirs(f"{place}/{name}", mode=0o700)
        os.close(_overlay([f"{place}/lower"], f"{place}/upper", f"{place}/work"))
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
