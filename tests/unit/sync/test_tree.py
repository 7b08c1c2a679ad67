"""What differs from the last look: the truth behind the events."""

from __future__ import annotations

import os
import pathlib
import shutil

import pytest

from devenv.sync import tree


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "p"
    (made / "a/b").mkdir(parents=True)
    (made / "a/b/f").write_text("1")
    (made / "skipped").mkdir()
    (made / "skipped/x").write_text("1")
    return made


@pytest.fixture
def looked(root: pathlib.Path) -> tree.Tree:
    found = tree.Tree(str(root), lambda path, _is_folder: path.endswith("/skipped"))
    found.look(str(root), deep=True)
    return found


def changes(looked: tree.Tree, root: pathlib.Path, path: str = "", *, deep: bool = False) -> list[str]:
    found = looked.look(str(root / path) if path else str(root), deep=deep)
    return sorted(os.path.relpath(each, root) for each in found)


def test_a_second_look_finds_nothing(looked: tree.Tree, root: pathlib.Path) -> None:
    assert changes(looked, root, deep=True) == []
    assert len(looked) == 3


def test_new_changed_and_gone(looked: tree.Tree, root: pathlib.Path) -> None:
    (root / "a/b/f").write_text("22")
    (root / "a/new").write_text("")
    assert changes(looked, root, deep=True) == ["a/b/f", "a/new"]
    (root / "a/new").unlink()
    assert changes(looked, root, "a/new") == ["a/new"]
    assert changes(looked, root, "a/new") == []


def test_a_mode_is_a_change_and_reading_is_none(looked: tree.Tree, root: pathlib.Path) -> None:
    (root / "a/b/f").read_text()
    assert changes(looked, root, "a/b/f") == []
    (root / "a/b/f").chmod(0o755)
    assert changes(looked, root, "a/b/f") == ["a/b/f"]


def test_a_new_folder_is_found_with_all_that_is_in_it(looked: tree.Tree, root: pathlib.Path) -> None:
    (root / "c/d").mkdir(parents=True)
    (root / "c/d/f").write_text("1")
    assert changes(looked, root, "c") == ["c", "c/d", "c/d/f"]


def test_a_folder_that_goes_takes_along_what_was_in_it(looked: tree.Tree, root: pathlib.Path) -> None:
    shutil.rmtree(root / "a")
    assert changes(looked, root, "a") == ["a", "a/b", "a/b/f"]


def test_a_folder_becomes_a_file_and_a_file_a_folder(looked: tree.Tree, root: pathlib.Path) -> None:
    shutil.rmtree(root / "a/b")
    (root / "a/b").write_text("now a file")
    assert changes(looked, root, "a/b") == ["a/b", "a/b/f"]
    (root / "a/b").unlink()
    (root / "a/b").mkdir()
    (root / "a/b/g").write_text("")
    assert changes(looked, root, deep=True) == ["a/b", "a/b/g"]


def test_what_is_skipped_is_not_seen_even_when_it_is_named(looked: tree.Tree, root: pathlib.Path) -> None:
    (root / "skipped/x").write_text("22")
    (root / "skipped/deep/er").mkdir(parents=True)
    assert changes(looked, root, "skipped/x") == []
    assert changes(looked, root, "skipped/deep/er") == []
    assert changes(looked, root, deep=True) == []


def test_links_are_files_and_are_not_followed(looked: tree.Tree, root: pathlib.Path) -> None:
    (root / "loop").symlink_to(".")
    assert changes(looked, root, deep=True) == ["loop"]
    (root / "loop").unlink()
    (root / "loop").symlink_to("a")
    assert changes(looked, root, "loop") == ["loop"]


def test_the_root_itself_may_go_and_come_back(looked: tree.Tree, root: pathlib.Path) -> None:
    moved = root.with_name("moved")
    root.rename(moved)
    assert "a/b/f" in changes(looked, root, deep=True)
    assert len(looked) == 0
    moved.rename(root)
    assert changes(looked, root, deep=True) == [".", "a", "a/b", "a/b/f"]


def test_a_root_may_be_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "package.json"
    found = tree.Tree(str(path), lambda _path, _is_folder: False)
    assert found.look(str(path)) == []
    path.write_text("{}")
    assert found.look(str(path)) == [str(path)]
    path.unlink()
    assert found.look(str(path)) == [str(path)]


def test_a_folder_that_may_not_be_read_is_not_taken_for_gone(
    looked: tree.Tree, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert changes(looked, root, deep=True) == []
    assert str(root / "a") in looked
