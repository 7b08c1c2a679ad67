"""devenv.lock: the same images everywhere, until somebody moves them."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import ocilayout
from tests.support import distribution, machine, projects, runner

pytestmark = [pytest.mark.root, distribution.needed, machine.needs_binary("busybox"), machine.needs_binary("skopeo")]


class Shelf:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.host = ""

    def put(self, version: str) -> None:
        layout = self.folder / version
        ocilayout.busybox_layout(layout, config={"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin", f"VERSION={version}"]})
        words = ["skopeo", "copy", "-q", "--dest-tls-verify=false"]
        done = subprocess.run(
            [*words, f"oci:{layout}:latest", f"docker://{self.host}/app:1"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def shelf(tmp_path: pathlib.Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path)
    with distribution.running(tmp_path) as made.host:
        made.put("one")
        yield made


def locked(project: projects.Project) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((project / "devenv.lock").read_text())["images"]
    return found


def rows(devenv: runner.Devenv, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in devenv(*words, "--format", "json").stdout.splitlines()]


def version(devenv: runner.Devenv) -> str:
    return devenv.inside("app", "echo $VERSION")


def spec(shelf: Shelf, more: str = "") -> str:
    return f"name: p\nservices:\n  app: {{image: '{shelf.host}/app:1', stop_grace_period: 0s{more}}}\n"


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_a_clone_starts_from_the_same_image(
    anyone: runner.Devenv, devenv_as: Callable[[str], runner.Devenv], project: projects.Project, shelf: Shelf
) -> None:
    project.write(spec(shelf))
    anyone("up", "-d")
    (name,) = locked(project)
    assert name == f"{shelf.host}/app:1"
    assert list(locked(project)[name]["platforms"]) == [f"linux/{ocilayout.architecture()}"]
    text = (project / "devenv.lock").read_text()
    anyone("down")
    shelf.put("two")
    # Another machine, with a store of its own.
    other = devenv_as("root" if anyone.user is None else "dvrange")
    other.cwd = anyone.cwd
    other("up", "-d", "--frozen")
    assert version(other) == "one"
    assert [row["Tag"] for row in rows(other, "image", "ls")] == ["1"]
    other("down")
    assert (project / "devenv.lock").read_text() == text


def test_it_moves_when_it_is_told_to(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(spec(shelf))
    assert devenv("lock", "--check", code=1).stderr.count("is not locked") == 1
    assert "is not in `devenv.lock`" in devenv("up", "-d", "--frozen", code=4).stderr
    devenv("lock")
    devenv("lock", "--check")
    before = locked(project)
    devenv("pull")
    assert devenv("outdated", "-q").stdout == ""
    shelf.put("two")
    (row,) = rows(devenv, "outdated")
    assert (row["Services"], row["Locked"]) == ("app", before[row["Image"]]["digest"])
    devenv("pull")
    devenv("up", "-d")
    assert (version(devenv), locked(project)) == ("one", before)
    assert " -> " in devenv("upgrade", "app").stdout
    devenv("up", "-d")
    assert (version(devenv), devenv("outdated", "-q").stdout) == ("two", "")
    assert json.loads(devenv("image", "inspect", f"{shelf.host}/app:1").stdout)[0]["RepoTags"]


def test_who_follows_a_tag_takes_the_lock_along(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(spec(shelf, ", pull_policy: always"))
    devenv("up", "-d")
    before = locked(project)
    shelf.put("two")
    devenv("up", "-d", "--frozen")
    assert (version(devenv), locked(project)) == ("one", before)
    devenv("up", "-d")
    assert version(devenv) == "two"
    assert locked(project) != before


def test_what_is_locked_and_here_needs_no_network(
    devenv: runner.Devenv, project: projects.Project, tmp_path: pathlib.Path
) -> None:
    shelf = Shelf(tmp_path)
    with distribution.running(tmp_path) as shelf.host:
        shelf.put("one")
        project.write(spec(shelf))
        devenv("pull")
    devenv("up", "-d", "--frozen")
    assert version(devenv) == "one"
    devenv("down")
    devenv("up", "-d")
    (project / "devenv.lock").write_text("version = 1\n<<<<<<< HEAD\n")
    said = devenv("up", "-d", code=2).stderr
    assert "devenv.lock:2" in said
    assert "a merge left its marks" in said


def test_only_what_moves_is_locked(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(spec(shelf))
    devenv("up", "-d")
    ocilayout.busybox_layout(project / "images", config={"Cmd": ["sleep", "1000"]})
    devenv("image", "load", "-i", "images")
    devenv("image", "tag", next(row["ID"] for row in rows(devenv, "image", "ls") if row["Tag"] == "<none>"), "mine:1")
    project.write(
        "name: p\nservices:\n  app: {image: 'mine:1', stop_grace_period: 0s}\n"
        "  b: {image: 'oci:images', stop_grace_period: 0s}\n  c: {image: 'host:', command: 'true'}\n"
    )
    devenv("up", "-d")
    assert len(locked(project)) == 1
    devenv("lock", "--check", code=1)
    devenv("lock")
    assert not (project / "devenv.lock").exists()
    devenv("lock", "--check")
    assert "nothing has moved" in devenv("upgrade").stderr


@pytest.mark.parametrize("anyone", ["dvrange"], indirect=True)
def test_a_checkout_of_somebody_elses_runs(anyone: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(spec(shelf))
    os.chown(project.path, 0, 0)
    assert "devenv.lock` can't be written" in anyone("up", "-d").stderr
    assert version(anyone) == "one"
    assert "devenv.lock` can't be written" in anyone("pull").stderr
    assert "devenv.lock` can't be written" in anyone("lock", code=4).stderr


def test_what_a_dockerfile_is_built_upon(devenv: runner.Devenv, project: projects.Project, shelf: Shelf) -> None:
    project.write(
        {
            "devenv.yaml": "name: p\nservices:\n  app: {build: ., stop_grace_period: 0s}\n",
            "Dockerfile": f"FROM {shelf.host}/app:1\nRUN true\n",
        }
    )
    name = f"{shelf.host}/app:1"
    assert "is not in `devenv.lock`" in devenv("build", "--frozen", code=4).stderr
    devenv("up", "-d")
    assert list(locked(project)) == [name]
    assert version(devenv) == "one"
    assert devenv("lock", "--check").stderr == ""

    shelf.put("two")
    assert [row["Image"] for row in rows(devenv, "outdated")] == [name]
    devenv("up", "-d", "--build")
    assert version(devenv) == "one"
    devenv("upgrade")
    devenv("up", "-d", "--build")
    assert version(devenv) == "two"

    shelf.put("three")
    before = locked(project)
    devenv("build", "--pull", "--frozen")
    assert locked(project) == before
    devenv("build", "--pull")
    assert locked(project) != before
    devenv("up", "-d")
    assert version(devenv) == "three"
