"""Device nodes in a container's /dev: those that every container has, and those that it asked for.

A user namespace may not make nodes (mknod(2), EPERM), nor root without CAP_MKNOD: there the host's own are bound in, or
such as were made before the user namespace was entered.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from devenv.linux import mount, namespace
from devenv.runtime import idmap

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


def made_beforehand(linux: dict[str, Any]) -> dict[str, int]:
    """Path -> detached tree of a node that the host doesn't have as ``linux.devices`` wants it.

    For a user namespace, which may neither make any nor use what lies on a filesystem of its own: so while we are
    still the host's root, on a tmpfs that is seen in a mount namespace which nobody but us has and we leave again.
    """
    wanted = {
        os.path.normpath("/" + entry["path"].lstrip("/")): described(entry)
        for entry in linux.get("devices") or []
        if "x-devenv-source" not in entry and entry.get("type") != "p" and not _host_has(entry)
    }
    if not wanted or not namespace.in_initial_user_namespace():
        return {}
    namespace.unshare(namespace.CLONE_NEWNS)
    mount.mount("none", "/", "", mount.MS_REC | mount.MS_SLAVE)
    context = mount.fsopen("tmpfs")
    mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
    folder = mount.fsmount(context, 0)
    os.close(context)
    # Over the root, which stays what we see: a process' own root is not looked up.
    mount.move_mount(folder, "", mount.AT_FDCWD, "/", mount.MOVE_MOUNT_F_EMPTY_PATH)
    found = {}
    for number, (path, (mode, device, (uid, gid))) in enumerate(wanted.items()):
        owner = idmap.outside(linux.get("uidMappings") or [], uid), idmap.outside(linux.get("gidMappings") or [], gid)
        make(folder, str(number), mode=mode, device=device, source="", bound=False, owner=owner)
        found[path] = mount.open_tree(folder, str(number), mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    mount.umount2(f"/proc/self/fd/{folder}", mount.MNT_DETACH)
    os.close(folder)
    return found


def _host_has(entry: dict[str, Any]) -> bool:
    """With the same number, and as it is if nothing else is asked for."""
    mode, device, _ = described(entry)
    try:
        there = os.stat(entry["path"])
    except OSError:
        return False
    asked = any(entry.get(name) is not None for name in ("fileMode", "uid", "gid"))
    return not asked and stat.S_IFMT(there.st_mode) == stat.S_IFMT(mode) and there.st_rdev == device


def make(
    folder: int, name: str, *, mode: int, device: int, source: str, bound: bool, owner: tuple[int, int] = (0, 0)
) -> None:
    """Raises ``FileExistsError`` if it is there."""
    if bound and not stat.S_ISFIFO(mode):
        bind(folder, name, _of_the_host(source, device))
        return
    try:
        os.mknod(name, mode, device, dir_fd=folder)
    except PermissionError:
        # Root of a container without CAP_MKNOD.
        bind(folder, name, _of_the_host(source, device))
        return
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


def _of_the_host(source: str, device: int) -> int:
    found = os.open(source, os.O_PATH | os.O_CLOEXEC)
    try:
        if os.fstat(found).st_rdev != device:
            raise OSError(errno.ENODEV, "the host's is another device, and in a user namespace none can be made")
        flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
        return mount.open_tree(found, "", flags)
    finally:
        os.close(found)


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
