"""Layers into temporary folders, as any user: whiteouts need no privilege, and `user.*` attributes neither."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import stat
from collections.abc import Iterator

from devenv.image import below, layer, unpack
from tests import ocilayout

OPAQUE = "user.overlay.opaque"


def chunked(data: bytes, size: int = 1 << 18) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def apply(
    root: pathlib.Path,
    given: ocilayout.Layer,
    *lower: pathlib.Path,
    size: int = 1 << 18,
    limits: layer.Limits = layer.LIMITS,
) -> unpack.Unpacker:
    root.mkdir()
    found = below.Below([str(each) for each in lower], opaque=OPAQUE)
    unpacker = unpack.Unpacker(str(root), found, opaque=OPAQUE, limits=limits)
    with contextlib.closing(unpacker):
        unpacker.run(chunked(ocilayout.tar(given), size))
    return unpacker


def listing(root: pathlib.Path) -> dict[str, str]:
    """Path -> what it is; content in short."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR:
                opaque = OPAQUE in os.listxattr(path)
                shown = "opaque" if opaque else "folder"
            elif kind == stat.S_IFLNK:
                shown = "-> " + os.readlink(path)
            elif kind == stat.S_IFREG:
                data = pathlib.Path(path).read_bytes()
                shown = data.decode("utf-8", "replace") if len(data) < 100 else hashlib.sha256(data).hexdigest()
            elif kind == stat.S_IFCHR and status.st_rdev == 0:
                shown = "whiteout"
            else:
                shown = {stat.S_IFIFO: "fifo", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}[kind]
            found[os.path.relpath(path, root)] = shown
    return dict(sorted(found.items()))
