"""Id mappings of user namespaces: writing them, and namespaces that are but an argument of mount_setattr(2)."""

from __future__ import annotations

import errno
import functools
import os
import socket
from typing import Any

from devenv import errors
from devenv.linux import mount, namespace

Mappings = list[dict[str, Any]]

EVERY_ID = (1 << 32) - 1  # -1 is none
_SPARE = 65533  # neither people nor systemd's dynamic users, and not nobody


def text(mappings: Mappings) -> str:
    return "".join(f"{each['containerID']} {each['hostID']} {each['size']}\n" for each in mappings)


def exchanged(outside: int, inside: int, *, first: int = 0, size: int = EVERY_ID) -> Mappings:
    """For an idmapped mount: who is ``outside`` on disk is ``inside`` in there, and whatever else keeps its number.

    Each id on disk has one in there and the other way round (user_namespaces(7)), so somebody has to take the number
    that is given up: ``_SPARE`` does, whom no image has. Straight exchange would let a service's user 1000 make files
    of the machine's root where root stands for the person 1000. ``first`` and ``size`` are the ids of the container's
    user namespace.
    """
    spare = _SPARE if _SPARE not in {outside, inside} else _SPARE - 1
    moved = {} if outside == inside else {outside: inside, inside: spare, spare: outside}
    found: Mappings = []
    start = 0
    for disk in sorted({*(each for each in moved if each < size), size}):
        if start < disk:
            found.append({"containerID": start, "hostID": first + start, "size": disk - start})
        start = disk + 1
    found += [
        {"containerID": disk, "hostID": first + shown, "size": 1} for disk, shown in moved.items() if shown < size
    ]
    return found


def root(uids: Mappings, gids: Mappings) -> tuple[int, int]:
    """What 0:0 inside is outside. Raises ``OSError`` where there is none."""
    found = [next((each["hostID"] for each in ids if each["containerID"] == 0), None) for ids in (uids, gids)]
    if found[0] is None or found[1] is None:
        raise OSError(22, "the user namespace has no root", "mapping ids")
    return found[0], found[1]


def outside(mappings: Mappings, inner: int) -> int:
    """The host's number for one of the container's. Raises ``OSError`` for one that isn't mapped."""
    for each in mappings:
        if each["containerID"] <= inner < each["containerID"] + each["size"]:
            return int(each["hostID"] + inner - each["containerID"])
    raise OSError(errno.EINVAL, f"id {inner} is not mapped into the container's user namespace")


def write(pid: int, uids: Mappings, gids: Mappings) -> None:
    """Set the maps of a process that has just made its user namespace. Raises ``ContainerError``."""
    try:
        if os.geteuid() == 0:
            _put(pid, "uid_map", text(uids))
            _put(pid, "gid_map", text(gids))
        elif _is_own(uids, os.geteuid()) and _is_own(gids, os.getegid()):
            _put(pid, "setgroups", "deny")
            _put(pid, "uid_map", text(uids))
            _put(pid, "gid_map", text(gids))
        else:
            _helped(pid, "newuidmap", uids)
            _helped(pid, "newgidmap", gids)
    except OSError as exc:
        raise errors.ContainerError(
            f"the ids of the container's user namespace can't be mapped: {exc.strerror}",
            hint="at most 340 ranges, none overlapping another, each within what the caller's namespace has",
        ) from exc


def _is_own(mappings: Mappings, own: int) -> bool:
    """What the kernel lets an ordinary user do without help (user_namespaces(7))."""
    return len(mappings) == 1 and mappings[0]["hostID"] == own and mappings[0]["size"] == 1


def _put(pid: int, file: str, content: str) -> None:
    descriptor = os.open(f"/proc/{pid}/{file}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        # A map is written whole or not at all.
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)


def _helped(pid: int, name: str, mappings: Mappings) -> None:
    import shutil  # it loads every compression there is: nothing for a quick start

    tool = shutil.which(name)
    if tool is None:
        raise errors.ContainerError(f"mapping more than one's own id needs {name}", hint="install the package `uidmap`")
    words = [tool, str(pid)]
    for each in mappings:
        words += [str(each["containerID"]), str(each["hostID"]), str(each["size"])]
    child = os.posix_spawn(tool, words, os.environ)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise errors.ContainerError(
            f"{name} refuses the container's ids", hint="see the ranges in /etc/subuid and /etc/subgid"
        )


def apply(tree: int, space: int, *, source: str, recursive: bool = False) -> None:
    """Show the files of a detached tree with the ids that they have in the user namespace ``space``.

    Raises ``ContainerError`` and ``OSError``.
    """
    flags = mount.AT_EMPTY_PATH | (mount.AT_RECURSIVE if recursive else 0)
    try:
        mount.mount_setattr(tree, "", flags, attr_set=mount.MOUNT_ATTR_IDMAP, userns_fd=space)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        raise errors.ContainerError(
            f"the filesystem of `{source}` can't show files with other ids, as a user namespace needs it",
            hint="use `userns_mode: host`",
        ) from exc


def possible(source: str, *, recursive: bool) -> tuple[str, str]:
    """The option that the mount at ``source`` can be given, and if none why not.

    Tried: which filesystems can (FS_ALLOW_IDMAP) differs from kernel to kernel. Without ``ridmap`` what is mounted
    beneath keeps its ids.
    """
    last = ""
    for option, deep in (("ridmap", mount.AT_RECURSIVE), ("idmap", 0)):
        if deep and not recursive:
            continue
        try:
            tree = mount.open_tree(mount.AT_FDCWD, source, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | deep)
            try:
                flags = mount.AT_EMPTY_PATH | deep
                mount.mount_setattr(tree, "", flags, attr_set=mount.MOUNT_ATTR_IDMAP, userns_fd=_any_namespace())
            finally:
                os.close(tree)
            return option, ""
        except OSError as exc:
            last = _NOT_MAPPED.get(exc.errno or 0) or str(exc.strerror)
    return "", last


_NOT_MAPPED = {
    errno.EINVAL: "its filesystem, or this kernel, can't map ids",
    errno.ENOSYS: "mapping ids needs Linux 5.12",
    errno.EPERM: "its mount belongs to another user namespace or has mapped ids already",
}


@functools.cache
def _any_namespace() -> int:
    """One to try with, kept open: making one takes a fork."""
    everybody: Mappings = [{"containerID": 0, "hostID": 0, "size": EVERY_ID}]
    return user_namespace(everybody, everybody)


def current(path: str) -> Mappings:
    """What a process's ``uid_map`` or ``gid_map`` says."""
    with open(path) as file:
        rows = [tuple(int(field) for field in line.split()) for line in file]
    return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in rows]


def user_namespace(uids: Mappings, gids: Mappings) -> int:
    """A descriptor of a new user namespace with these mappings, in which no process is."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            # Else it would wait for itself.
            ours.close()
            namespace.unshare(namespace.CLONE_NEWUSER)
            theirs.send(b"u")
            theirs.recv(1)
        finally:
            os._exit(0)
    theirs.close()
    try:
        if not ours.recv(1):
            raise OSError(1, "no user namespace can be made for the mapping")
        write(child, uids, gids)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        ours.close()
        os.waitpid(child, 0)
