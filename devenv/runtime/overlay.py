"""An overlay's options, for the kernel and for fuse-overlayfs(1), and its mount, however many layers it has."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping
from typing import Any

from devenv.linux import mount

PAGE = 4000  # mount(2) copies one page of options, and says nothing about the rest

Overlay = Mapping[str, Any]  # target, lower (the topmost first), upper, work; without the last two it is read-only


def folders(overlay: Overlay) -> str:
    """`:` and `,` in paths are escaped as both parsers want it."""
    lower = ":".join(map(_escaped, overlay["lower"]))
    if "upper" not in overlay:
        return f"lowerdir={lower}"
    return f"lowerdir={lower},upperdir={_escaped(overlay['upper'])},workdir={_escaped(overlay['work'])}"


def of_the_kernel(overlay: Overlay, *, in_user_namespace: bool) -> str:
    if in_user_namespace:
        # trusted.* attributes need CAP_SYS_ADMIN in the initial namespace; user.* ones do (kernel 5.11).
        return f"{folders(overlay)},userxattr"
    # Off, so that an upper folder can be read, copied and put over other lowers without its mount.
    return f"{folders(overlay)},index=off,metacopy=off"


def mounted(overlay: Overlay, target: str, *, in_user_namespace: bool) -> None:
    data = of_the_kernel(overlay, in_user_namespace=in_user_namespace)
    if len(data) < PAGE:
        mount.mount("overlay", target, "overlay", 0, data)
        return
    try:
        _by_layer(overlay, target, in_user_namespace=in_user_namespace)
    except OSError as exc:
        if exc.errno not in {errno.EINVAL, errno.ENOSYS}:
            raise
        # Before kernel 6.5. Some two hundred layers fit by the shortest names they can have.
        with contextlib.ExitStack() as opened:
            names = []
            for path in overlay["lower"]:
                fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, fd)
                names.append(f"/proc/self/fd/{fd}")
            data = of_the_kernel({**overlay, "lower": names}, in_user_namespace=in_user_namespace)
            mount.mount("overlay", target, "overlay", 0, data)


def _by_layer(overlay: Overlay, target: str, *, in_user_namespace: bool) -> None:
    with contextlib.ExitStack() as opened:
        context = mount.fsopen("overlay")
        opened.callback(os.close, context)
        add_layers(context, overlay["lower"], in_user_namespace=in_user_namespace)
        if "upper" in overlay:
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "upperdir", overlay["upper"])
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "workdir", overlay["work"])
        mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
        tree = mount.fsmount(context, 0)
        opened.callback(os.close, tree)
        mount.move_mount(tree, "", mount.AT_FDCWD, target, mount.MOVE_MOUNT_F_EMPTY_PATH)


def add_layers(context: int, layers: Iterable[str], *, in_user_namespace: bool) -> None:
    """To an overlay that is being made by fsopen(2), the topmost first. From kernel 6.5 on."""
    for path in layers:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir+", path)
    if in_user_namespace:
        mount.fsconfig(context, mount.FSCONFIG_SET_FLAG, "userxattr")
    else:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "index", "off")
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "metacopy", "off")


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
