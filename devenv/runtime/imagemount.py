"""An image that a container has mounted beside its own: its layers as one read-only tree, or a part of that.

In a bundle it is a mount of type ``overlay`` with our own keys beside the specification's:

    x-devenv-layers   folders, the topmost first; two or more, since one is a bind
    x-devenv-subpath  the folder or file in them that is mounted in place of the whole
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from devenv.linux import mount, openat2
from devenv.runtime import overlay

LAYERS = "x-devenv-layers"
SUBPATH = "x-devenv-subpath"


def is_one(entry: Mapping[str, Any]) -> bool:
    return LAYERS in entry


def tree(entry: Mapping[str, Any], scratch: str, layers: Sequence[str], *, in_user_namespace: bool) -> int:
    """A detached tree. ``scratch`` is a folder of the caller's mount namespace that may be covered for the moment."""
    overlay.mounted({"lower": layers}, scratch, in_user_namespace=in_user_namespace)
    try:
        root = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Links of the image are followed as they are in it, and lead no further.
            place = openat2.in_root(root, entry.get(SUBPATH) or "/", os.O_PATH)
        finally:
            os.close(root)
        try:
            return mount.open_tree(place, "", mount.AT_EMPTY_PATH | mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
        finally:
            os.close(place)
    finally:
        mount.umount2(scratch, mount.MNT_DETACH)
