from __future__ import annotations

import os
import pathlib

import pytest

from devenv.util import tree


def test_nothing_outside_is_touched(tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    inside = tmp_path / "inside"
    (inside / "a").mkdir(parents=True)
    (inside / "a" / "folder").symlink_to(outside)
    (inside / "a" / "file").symlink_to(outside / "file")
    os.link(outside / "file", inside / "hard")
    os.mkfifo(inside / "fifo")
    tree.remove(str(inside))
    assert not inside.exists()
    assert (outside / "file").read_text() == "x"


def test_a_link_goes_and_its_target_stays(tmp_path: pathlib.Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    tree.remove(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["target"]


def test_missing_is_fine(tmp_path: pathlib.Path) -> None:
    tree.remove(str(tmp_path / "nothing"))


def test_modes_and_odd_names(tmp_path: pathlib.Path) -> None:
    top = tmp_path / "t"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "f").write_text("")
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b"*"):
        pathlib.Path(os.fsdecode(os.fsencode(top) + b"/" + name)).write_text("")
    os.chmod(top / "a" / "b", 0)
    os.chmod(top / "a", 0o500)
    os.chmod(top, 0)
    tree.remove(str(top))
    assert not top.exists()


@pytest.mark.parametrize("depth", [10, 60, 1500])
def test_deep(tmp_path: pathlib.Path, depth: int) -> None:
    (tmp_path / "t").mkdir()
    folder = os.open(tmp_path / "t", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("deep", dir_fd=folder)
        child = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = child
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    tree.remove(str(tmp_path / "t"))
    assert os.listdir(tmp_path) == []
