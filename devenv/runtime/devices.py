"""Device nodes in a container's /dev: those that every container has, and those that it asked for.

A user namespace may not make nodes (mknod(2), EPERM): there the host's own are bound in.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from devenv.linux import mount

DEFAULT = (
    (1, 3, "null"),
    (1, 5, "zero"),
    (1, 7, "full"),
    (1, 8, "random"),
    (1, 9, "urandom"),
    (5, 0, "tty"),
)
LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
)
KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def fill(folder: int, *, bound: bool, trees: Mapping[str, int] = MappingProxyType({})) -> None:
    """The default nodes and links in the open folder ``folder``; what is there already stays.

    ``trees``: detached ones of nodes that somebody who may has made, by their path.
    """
    for major, minor, name in DEFAULT:
        number = os.makedev(major, minor)
        with contextlib.suppress(FileExistsError):
            if f"/dev/{name}" in trees:
                bind(folder, name, trees[f"/dev/{name}"])
                continue
            make(folder, name, mode=stat.S_IFCHR | 0o666, device=number, source=f"/dev/{name}", bound=bound)
    for source, name in LINKS:
        with contextlib.suppress(FileExistsError):
            os.symlink(source, name, dir_fd=folder)
    if os.path.exists("/proc/kcore"):
        with contextlib.suppress(FileExistsError):
            os.symlink("/proc/kcore", "core", dir_fd=folder)
    # The one of the host must not be reached through a node that was there (devpts(5)).
    with contextlib.suppress(FileNotFoundError):
        os.unlink("ptmx", dir_fd=folder)
    os.symlink("pts/ptmx", "ptmx", dir_fd=folder)


def make(
    folder: int, name: str, *, mode: int, device: int, source: str, bound: bool, owner: tuple[int, int] = (0, 0)
) -> None:
    """Raises ``FileExistsError`` if it is there."""
    if bound and not stat.S_ISFIFO(mode):
        bind(folder, name, mount.open_tree(mount.AT_FDCWD, source, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC))
        return
    os.mknod(name, mode, device, dir_fd=folder)
    # The umask took its part; a link in its place is not followed, for we have just made it.
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{place}", stat.S_IMODE(mode))
        if owner != (0, 0):
            os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(place)


def bind(folder: int, name: str, tree: int) -> None:
    """Attach a detached tree, which is closed. Raises ``FileExistsError``."""
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=folder))
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            mount.mount_setattr(
                tree, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
            )
            mount.move_mount(tree, "", place, "", mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH)
        finally:
            os.close(place)
    finally:
        os.close(tree)


def described(entry: dict[str, Any]) -> tuple[int, int, tuple[int, int]]:
    """Mode, number and owner of an entry of ``linux.devices``. Raises ``OSError`` for one that is no device."""
    if "x-devenv-source" in entry:
        found = os.stat(entry["x-devenv-source"])
        if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            raise OSError(19, "it is not a device")
        return found.st_mode, found.st_rdev, (found.st_uid, found.st_gid)
    kind = KINDS.get(entry.get("type") or "")
    if kind is None:
        raise OSError(22, f"there is no device of type `{entry.get('type')}`")
    mode = entry.get("fileMode")
    number = os.makedev(entry.get("major") or 0, entry.get("minor") or 0)
    permissions = 0o666 if mode is None else stat.S_IMODE(mode)
    return kind | permissions, number, (entry.get("uid") or 0, entry.get("gid") or 0)


def same(folder: int, name: str, mode: int, device: int) -> bool:
    """Whether what is there already is that very device."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return stat.S_IFMT(found.st_mode) == stat.S_IFMT(mode) and (stat.S_ISFIFO(mode) or found.st_rdev == device)
