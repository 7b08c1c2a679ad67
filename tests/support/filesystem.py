"""Filesystems of a test's own: a tmpfs, or one in a file on a loop device."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

LEAST = 512 << 20  # what mkfs.xfs takes at the least is 300 MB


def kinds(*wanted: str) -> list[str]:
    """Those of ``wanted`` that can be made here; mkfs.xfs and its like are seldom installed."""
    return [name for name in wanted if name == "tmpfs" or shutil.which(f"mkfs.{name}")]


@contextlib.contextmanager
def mounted(
    kind: str, place: pathlib.Path, images: pathlib.Path, size: int = LEAST, *, made: str = "", options: str = "loop"
) -> Iterator[None]:
    """At ``place``, which is made; skips the test where the kernel can't. ``images`` is emptied afterwards.

    ``made``: further arguments of mkfs.
    """
    place.mkdir()
    images.mkdir(exist_ok=True)
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "tmpfs", str(place)]
    else:
        image = images / f"{kind}.img"
        with open(image, "wb") as file:
            file.truncate(size)
        subprocess.run([f"mkfs.{kind}", *made.split(), str(image)], check=True, capture_output=True)
        command = ["mount", "-o", options, str(image), str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs kernel support for {kind} on a loop device: {done.stderr.strip()}")
        yield
        subprocess.run(["umount", str(place)], check=True)
    finally:
        shutil.rmtree(images, ignore_errors=True)
