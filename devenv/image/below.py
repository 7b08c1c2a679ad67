"""What an image shows before a further layer: looked up through its layers as overlayfs would, without a mount."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple


class Found(NamedTuple):
    path: bytes  # on the disk
    status: os.stat_result


class Below:
    """``layers`` are folders, the topmost first; ``opaque`` is the name of the attribute they use."""

    def __init__(self, layers: Sequence[str], *, opaque: str) -> None:
        self._layers = [os.fsencode(layer) for layer in layers]
        self._opaque = opaque

    def find(self, parts: Sequence[bytes]) -> Found | None:
        """What is at a path none of whose folders may be a link."""
        for layer in self._layers:
            path, hides = layer, False
            for number, part in enumerate((b"", *parts)):
                path = path + b"/" + part if part else path
                try:
                    status = os.lstat(path)
                except OSError:
                    break
                last = number == len(parts)
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    return None
                if last:
                    return Found(path, status)
                if not stat.S_ISDIR(status.st_mode):
                    return None
                hides = hides or self._is_opaque(path)
            if hides:
                return None
        return None

    def names(self, parts: Sequence[bytes]) -> list[bytes]:
        """What is in the folder at a path, none of whose folders may be a link; nothing if it is none."""
        found: set[bytes] = set()
        for layer in self._layers:
            path, hides, there = layer, False, True
            for part in (b"", *parts):
                path = path + b"/" + part if part else path
                try:
                    status = os.lstat(path)
                except OSError:
                    there = False
                    break
                if not stat.S_ISDIR(status.st_mode):
                    there, hides = False, True
                    break
                hides = hides or self._is_opaque(path)
            if there:
                found |= set(os.listdir(path))
            if hides:
                break
        # What a layer above has deleted is named there, too.
        return sorted(name for name in found if self.find((*parts, name)))

    def _is_opaque(self, path: bytes) -> bool:
        try:
            return os.getxattr(path, self._opaque, follow_symlinks=False) == b"y"
        except OSError:
            return False
