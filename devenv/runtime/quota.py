"""How much a container may write of its own: `storage_opt: {size: 10G}`, a project quota on its writable layer.

A filesystem that has them (xfs mounted with pquota, ext4 with prjquota) counts what the files of a project take, and a
new file is of its folder's project. Each container is one, by a number that nobody has given a limit or files to: the
filesystem itself is the list of those in use, so there is nothing else to keep, or to lose.

The number goes with the container. Before its files: one that is without a limit and not yet without files is nobody
else's, and who comes after a kill finishes it.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Sequence

from devenv import errors
from devenv.linux import namespace, quota
from devenv.util import lock

# Numbers of people and other programs begin at 1 (/etc/projid, Docker, podman).
_FIRST, _LAST = 1 << 30, (1 << 31) - 1
_HOW = {
    "xfs": "mounted with `pquota` it has them",
    "ext4": "after `tune2fs -O project,quota` and mounted with `prjquota` it has them",
}


def missing(folder: str) -> str:
    """Why nothing below ``folder``, or where that is to be, can be limited; empty if it can."""
    if not namespace.in_initial_user_namespace():
        return "only root can limit what a container writes"
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    opened = _open(folder)
    try:
        if quota.enforced(opened):
            return ""
    finally:
        os.close(opened)
    kind, place = _filesystem(folder)
    how = _HOW.get(kind, "xfs mounted with `pquota` has them, and ext4 with `prjquota`")
    return f"{kind} at `{place}` has no project quotas: {how}"


def confine(folders: Sequence[str], size: int, lock_file: str) -> None:
    """What is in ``folders``, which lie beside each other, may take ``size`` bytes together. Nobody writes to them.

    A layer that came back from a snapshot belongs to no project yet, or to one that is left behind with what it was
    exchanged for.
    """
    above = _project(os.path.dirname(folders[0]))
    mine = {_project(folder) for folder in folders}
    opened = _open(folders[0])
    try:
        if len(mine) == 1 and _is_ours(number := next(iter(mine)), above):
            quota.set_limit(opened, number, size)
            return
        with lock.held(lock_file):
            number = _unused(opened)
            for folder in folders:
                _give(folder, number)
            quota.set_limit(opened, number, size)
        for former in mine:
            if _is_ours(former, above):
                quota.set_limit(opened, former, 0)
    except OSError as exc:
        raise errors.ContainerError(f"what it writes can't be limited to {size} bytes: {exc.strerror}") from exc
    finally:
        os.close(opened)


def release(folder: str) -> None:
    """What is in ``folder`` is about to be removed: take back the limit, and so the number."""
    try:
        opened = _open(folder)
    except OSError:
        return  # half a container
    try:
        number = quota.project(opened)
        if _is_ours(number, _project(os.path.dirname(folder))):
            quota.set_limit(opened, number, 0)
    except OSError:
        return  # a filesystem without projects, or not any more
    finally:
        os.close(opened)


def _is_ours(number: int, above: int) -> bool:
    """A folder inherits the number of the one above, which somebody may have given that."""
    return _FIRST <= number <= _LAST and number != above


def _unused(opened: int) -> int:
    while quota.is_used(opened, number := random.randint(_FIRST, _LAST)):
        pass
    return number


def _give(folder: str, number: int) -> None:
    for _, _, files, here in os.fwalk(folder):
        quota.set_project(here, number, inherited=True)
        for name in files:
            if stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                _give_file(here, name, number)


def _give_file(folder: int, name: str, number: int) -> None:
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        quota.set_project(opened, number, inherited=False)
    finally:
        os.close(opened)


def _project(folder: str) -> int:
    opened = _open(folder)
    try:
        return quota.project(opened)
    except OSError as exc:
        if exc.errno not in {errno.ENOTTY, errno.EOPNOTSUPP}:
            raise
        return 0
    finally:
        os.close(opened)


def _open(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _filesystem(folder: str) -> tuple[str, str]:
    """Its kind, and where it is mounted (proc_pid_mountinfo(5))."""
    status = os.stat(folder)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    path = os.path.realpath(folder)
    best = ("this filesystem", path)
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            number, point = fields.split()[2], fields.split()[4].encode().decode("unicode_escape")
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and (number == device or rest.split()[0] == "btrfs"):
                best = (rest.split()[0], point)
    return best
