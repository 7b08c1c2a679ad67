"""The extended attributes that go into an image: capabilities, access control lists, and what users have set.

Labels of a security module belong to the machine, and overlayfs's own would redirect to other files.
"""

from __future__ import annotations

import os

from devenv.image import unpack


def is_kept(name: str) -> bool:
    return unpack.is_kept(os.fsencode(name))


def of(place: int | str) -> list[tuple[str, bytes]]:
    """Of an open file, or of a path whose last name is not followed; sorted. None where there can't be any."""
    try:
        names = os.listxattr(place) if isinstance(place, int) else os.listxattr(place, follow_symlinks=False)
        if not names:
            return []
        return [(name, _value(place, name)) for name in sorted(names) if is_kept(name)]
    except OSError:
        return []


def put(place: int | str, attributes: list[tuple[str, bytes]]) -> bool:
    """Whether all of them could be."""
    whole = True
    for name, value in attributes:
        try:
            if isinstance(place, int):
                os.setxattr(place, name, value)
            else:
                os.setxattr(place, name, value, follow_symlinks=False)
        except OSError:
            whole = False
    return whole


def _value(place: int | str, name: str) -> bytes:
    return os.getxattr(place, name) if isinstance(place, int) else os.getxattr(place, name, follow_symlinks=False)
