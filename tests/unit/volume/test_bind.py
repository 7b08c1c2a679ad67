from __future__ import annotations

import os
import pathlib

import pytest

from devenv import errors
from devenv.volume import bind


def test_relative_absolute_home_and_links(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "link").symlink_to("src")
    monkeypatch.setenv("HOME", str(tmp_path))
    real = os.path.realpath(tmp_path / "src")
    for source in ("src", "./src", "src/", "link", "~/src", str(tmp_path / "src"), "../" + tmp_path.name + "/src"):
        assert bind.resolve(source, base=str(tmp_path), create=False) == real


def test_a_missing_source_is_made_or_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(errors.VolumeError, match="does not exist") as caught:
        bind.resolve("./sourec", base=str(tmp_path), create=False)
    assert caught.value.hint == "did you mean `source`?"
    made = bind.resolve("a/b", base=str(tmp_path), create=True)
    assert os.path.isdir(made)
    assert os.stat(made).st_uid == os.stat(tmp_path).st_uid


@pytest.mark.parametrize("source", ["", "file/", "file/below", "~nobody-of-that-name/x", "loop"])
def test_what_cannot_be_a_source(tmp_path: pathlib.Path, source: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(errors.VolumeError):
        bind.resolve(source, base=str(tmp_path), create=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_files_and_devices_are_sources(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    assert bind.resolve("file", base=str(tmp_path), create=True) == os.path.realpath(tmp_path / "file")
    assert bind.resolve("/dev/null", base=str(tmp_path), create=True) == "/dev/null"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_made_folders_belong_to_the_owner_of_the_project(tmp_path: pathlib.Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    made = bind.resolve("a/b", base=str(tmp_path), create=True)
    for path in (made, os.path.dirname(made)):
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (12345, 12346)


def test_beneath(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "a" / "up").symlink_to("..")
    assert bind.beneath(str(tmp_path), "a/b") == f"{tmp_path}/a/b"
    assert bind.beneath(str(tmp_path), "./a//b/") == f"{tmp_path}/a/b"
    for path in ("../x", "a/../..", "/etc", "out", "out/passwd", "a/up/a", "missing", "a\0"):
        with pytest.raises(errors.VolumeError):
            bind.beneath(str(tmp_path), path)
