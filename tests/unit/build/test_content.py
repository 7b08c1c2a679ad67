"""Bytes from file to file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from devenv.build import content


def copied(tmp_path: Path, source: Path) -> Path:
    target = tmp_path / "target"
    with source.open("rb") as read, target.open("wb") as write:
        content.copy(read.fileno(), write.fileno(), source.stat())
    return target


@pytest.mark.parametrize("size", [0, 1, 4096, content._SMALL, content._SMALL + 1, 3 << 20])
def test_any_size(tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    assert copied(tmp_path, source).read_bytes() == source.read_bytes()


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.write(b"head")
        file.seek(8 << 20)
        file.write(b"middle")
        file.truncate(64 << 20)
    target = copied(tmp_path, source)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("refused", [["copy_file_range"], ["copy_file_range", "sendfile"]])
def test_where_the_kernel_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: list[str]) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "no")

    for name in refused:
        monkeypatch.setattr(os, name, refuse)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1 << 20))
    assert copied(tmp_path, source).read_bytes() == source.read_bytes()


def test_a_file_of_the_kernel_without_a_size(tmp_path: Path) -> None:
    assert copied(tmp_path, Path("/proc/self/status")).read_bytes().startswith(b"Name:")
