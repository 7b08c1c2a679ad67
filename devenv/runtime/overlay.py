"""The option strings of an overlay, for the kernel and for fuse-overlayfs(1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Overlay = Mapping[str, Any]  # target, lower (the topmost first), upper, work


def folders(overlay: Overlay) -> str:
    """`:` and `,` in paths are escaped as both parsers want it."""
    lower = ":".join(map(_escaped, overlay["lower"]))
    return f"lowerdir={lower},upperdir={_escaped(overlay['upper'])},workdir={_escaped(overlay['work'])}"


def of_the_kernel(overlay: Overlay, *, in_user_namespace: bool) -> str:
    if in_user_namespace:
        # trusted.* attributes need CAP_SYS_ADMIN in the initial namespace; user.* ones do (kernel 5.11).
        return f"{folders(overlay)},userxattr"
    # Off, so that an upper folder can be read, copied and put over other lowers without its mount.
    return f"{folders(overlay)},index=off,metacopy=off"


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
