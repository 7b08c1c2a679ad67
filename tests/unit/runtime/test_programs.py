"""Which program `runtime:` names."""

from __future__ import annotations

import pathlib

import pytest

from devenv.runtime import programs


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    for name, mode in (("myrun", 0o755), ("notes", 0o644)):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("PATH", f":relative:{tmp_path}")
    return tmp_path


@pytest.mark.parametrize("name", ["myrun", "io.containerd.myrun.v2"])
def test_a_name_is_looked_up(folder: pathlib.Path, name: str) -> None:
    assert programs.find(name) == f"{folder}/myrun"


def test_a_path_is_itself(folder: pathlib.Path) -> None:
    assert programs.find(f"{folder}/myrun") == f"{folder}/myrun"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["", "nobody", "notes", "folder", "./myrun", "sub/myrun", "io.containerd.myrun"])
def test_what_is_no_program(name: str) -> None:
    assert programs.find(name) is None


@pytest.mark.parametrize("name", ["nobody", "notes", "folder"])
def test_what_is_no_programs_path(folder: pathlib.Path, name: str) -> None:
    assert programs.find(f"{folder}/{name}") is None


def test_ours_is_beside_the_interpreter(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> None:
    (folder / "devenv-oci").write_text("")
    (folder / "devenv-oci").chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", f"{folder}/python")
    found = programs.find("devenv-oci")
    assert found is not None
    assert found.endswith("/devenv-oci")


def test_whose_containers_can_be_entered() -> None:
    assert programs.is_joinable("/usr/bin/crun")
    assert not programs.is_joinable("/usr/bin/runsc")
