"""Every template: a spec that loads without a warning, Dockerfiles that keep the rules, and a README that says what."""

from __future__ import annotations

import pathlib

import pytest

from devenv.build.dockerfile import parser
from devenv.spec import loader
from devenv.util import templates

FOLDERS = sorted(path.parent for path in (pathlib.Path(__file__).parents[3] / "templates").glob("*/devenv.yaml"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_it_loads(folder: pathlib.Path) -> None:
    loaded = loader.load(loader.LoadOptions(cwd=str(folder), environ={}))
    # Where there is a compose.yaml too, that devenv.yaml wins is worth a word.
    assert [text for text in loaded.warnings if not text.startswith("using `devenv.yaml`")] == []
    assert loaded.project.name == folder.name
    for path in folder.rglob("Dockerfile"):
        parsed = parser.parse(path.read_bytes(), file=str(path))
        assert parsed.warnings == ()
    for service in loaded.canonical["services"].values():
        context = (service.get("build") or {}).get("context")
        assert context is None or (pathlib.Path(context) / "Dockerfile").exists()


def test_each_says_what_it_is() -> None:
    found = {each.name: each.summary for each in templates.available()}
    assert sorted(found) == [folder.name for folder in FOLDERS]
    assert all(found.values())
