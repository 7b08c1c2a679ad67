"""fuse-overlayfs(1) in place of the kernel's overlay, only where that can't be had: on top of another overlay (the data
folder of a devenv in a container, say), on NFS, in a user namespace before Linux 5.11.

The device is opened here and mounted by the container's first process, as the kernel's overlay would be. The program
gets it by its number, so that it stays in the namespaces of the engine: the container neither sees it nor can touch it,
and it ends when the mount does, with the container's mount namespace, whoever is killed meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from devenv import errors
from devenv.linux import mount, namespace, statfs
from devenv.runtime import overlay as overlay_

PROGRAM = "fuse-overlayfs"
DEVICE = "/dev/fuse"
# On which an overlay works for certain since Linux 5.11, magic.h: ext4, xfs, btrfs, tmpfs, f2fs.
_WORKS = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0xF2F52010})


class Device(NamedTuple):
    descriptor: int
    tell: int  # the pipe on which the program hears that it is mounted


def take_over(overlays: Sequence[overlay_.Overlay], *, place: str, in_user_namespace: bool) -> dict[str, Device]:
    """By target, the device to mount for each overlay that the kernel can't mount.

    ``place`` is a folder to try it on, in a mount namespace of a child's. Raises ``ContainerError`` when there is no
    other way either.
    """
    found: dict[str, Device] = {}
    for overlay in overlays:
        if _is_certain(overlay, in_user_namespace):
            continue
        problem = _try(overlay, place, in_user_namespace=in_user_namespace)
        if problem:
            found[overlay["target"]] = _serve(overlay, problem)
    return found


def attach(device: Device, target: str) -> None:
    # As an overlay does: owners, modes and set-user-ID count for everybody.
    data = f"fd={device.descriptor},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    try:
        mount.mount(PROGRAM, target, "fuse", 0, data)
        os.write(device.tell, b"m")
    finally:
        os.close(device.descriptor)
        os.close(device.tell)


def _is_certain(overlay: overlay_.Overlay, in_user_namespace: bool) -> bool:
    if in_user_namespace and _kernel() < (5, 11):
        return False
    for path in (overlay["upper"], *overlay["lower"]):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if statfs.f_type(descriptor) not in _WORKS:
                return False
        finally:
            os.close(descriptor)
    return True


def _try(overlay: overlay_.Overlay, place: str, *, in_user_namespace: bool) -> int:
    """The errno of mounting it; 0 when it works."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            namespace.unshare(namespace.CLONE_NEWNS)
            mount.mount("none", "/", "", mount.MS_REC | mount.MS_PRIVATE)
            data = overlay_.of_the_kernel(overlay, in_user_namespace=in_user_namespace)
            mount.mount("overlay", place, "overlay", 0, data)
            code = 0
        except OSError as exc:
            code = exc.errno or 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(letter for letter in minor if letter.isdecimal()) or 0)


def program() -> str | None:
    for folder in (os.environ.get("PATH") or os.defpath).split(":"):
        if folder and os.access(f"{folder}/{PROGRAM}", os.X_OK):
            return f"{folder}/{PROGRAM}"
    return None


def _serve(overlay: overlay_.Overlay, problem: int) -> Device:
    reason = f"the kernel can't mount an overlay in `{os.path.dirname(overlay['upper'])}`: {os.strerror(problem)}"
    elsewhere = "set DEVENV_DATA_HOME to a folder on ext4, xfs, btrfs or tmpfs"
    tool = program()
    if tool is None:
        raise errors.ContainerError(reason, hint=f"{elsewhere}, or install `{PROGRAM}`")
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise errors.ContainerError(
            f"{reason}, and `{DEVICE}` can't be opened: {exc.strerror}",
            hint=f"{elsewhere}, or give access to `{DEVICE}`",
        ) from exc
    mounted, tell = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        try:
            os.close(tell)
            # Reading from the device is an error before it is mounted; without a word there is nothing to serve.
            if os.read(mounted, 1):
                _execute(tool, overlay, device)
        finally:
            os._exit(1)
    os.close(mounted)
    return Device(device, tell)


def _execute(tool: str, overlay: overlay_.Overlay, device: int) -> None:
    """Our parent has ended by then; whoever reaps the container reaps us."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    os.set_inheritable(device, True)
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    os.execve(tool, [tool, "-f", "-o", overlay_.folders(overlay), f"/dev/fd/{device}"], environment)
