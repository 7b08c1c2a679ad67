"""This process' program again, but from a mount that is read-only and belongs to no namespace: a detached tree.

Whoever finds it by /proc/PID/exe can neither write to it (EROFS), nor mount it elsewhere, nor make it writable: all of
that needs a mount of one's own namespace (open_tree(2), mount_setattr(2): EINVAL).
"""

from __future__ import annotations

import os

from devenv.linux import execveat, mount


def execute(args: list[str]) -> None:
    """Returns only where making the tree isn't permitted, or not known to the kernel (before 5.12)."""
    try:
        tree = mount.open_tree(
            mount.AT_FDCWD, os.path.realpath("/proc/self/exe"), mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC
        )
        mount.mount_setattr(tree, "", mount.AT_EMPTY_PATH, attr_set=mount.MOUNT_ATTR_RDONLY)
    except OSError:
        return
    execveat.execveat(tree, args, [f"{name}={value}" for name, value in os.environ.items()])
