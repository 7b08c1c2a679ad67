"""Id mappings of user namespaces: writing them, and namespaces that are but an argument of mount_setattr(2)."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from devenv import errors
from devenv.linux import mount, namespace

Mappings = list[dict[str, Any]]


def text(mappings: Mappings) -> str:
    return "".join(f"{each['containerID']} {each['hostID']} {each['size']}\n" for each in mappings)


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
