from __future__ import annotations

import os
import pathlib

import pytest

from devenv.util import templates


def guestbook() -> templates.Template:
    return next(item for item in templates.available() if item.name == "guestbook")


def test_templates_say_what_they_are() -> None:
    assert guestbook().summary.startswith("Three services")


def test_a_copy_has_every_file_and_no_caches(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "new" / "folder"
    paths = templates.copy(guestbook(), str(target))
    assert {"devenv.yaml", "README.md", "api/api.py", "front/site/index.html"} <= set(paths)
    for path in paths:
        assert (target / path).read_bytes() == (guestbook().root / path).read_bytes()
    assert not list(target.glob("**/__pycache__"))


def test_nothing_is_written_when_one_file_exists(tmp_path: pathlib.Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(templates.Conflict) as caught:
        templates.copy(guestbook(), str(tmp_path))
    assert caught.value.paths == ["README.md"]
    assert os.listdir(tmp_path) == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_dangling_link_counts_as_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "devenv.yaml").symlink_to("/nowhere")
    with pytest.raises(templates.Conflict):
        templates.copy(guestbook(), str(tmp_path))
