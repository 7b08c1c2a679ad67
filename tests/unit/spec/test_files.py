"""Which files make the spec, the project's name, and profiles."""

from __future__ import annotations

import pathlib

import pytest

from tests.unit.spec.support import load, refused, write

ONE = "services: {web: {image: x}}\n"


def names(folder: pathlib.Path, **options: object) -> list[str]:
    return [pathlib.Path(path).name for path in load(folder, **options).files]  # type: ignore[arg-type]


def test_the_order_of_names(tmp_path: pathlib.Path) -> None:
    order = ["devenv.yaml", "devenv.yml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"]
    write(tmp_path, dict.fromkeys(order, ONE))
    for name in order:
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()
    assert "no spec" in refused(tmp_path).message


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("devenv.yaml", "devenv.override.yaml"),
        ("devenv.yml", "devenv.override.yaml"),
        ("compose.yaml", "compose.override.yml"),
        ("docker-compose.yml", "docker-compose.override.yml"),
        ("compose.yaml", "docker-compose.override.yaml"),
    ],
)
def test_overrides(tmp_path: pathlib.Path, name: str, override: str) -> None:
    write(tmp_path, {name: ONE, override: "services: {web: {image: y}}"})
    assert names(tmp_path) == [name, override]
    assert load(tmp_path).canonical["services"]["web"]["image"] == "y"


def test_upwards(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"compose.yaml": ONE, "a/b/x": ""})
    loaded = load(tmp_path / "a" / "b")
    assert loaded.project.working_dir == str(tmp_path)


def test_named_files(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"a/one.yaml": ONE, "two.yaml": "services: {web: {volumes: ['./v:/v']}}"})
    loaded = load(tmp_path, files=["a/one.yaml", "two.yaml"])
    assert loaded.project.working_dir == f"{tmp_path}/a"
    assert loaded.project.services["web"].volumes[0].source == f"{tmp_path}/a/v"
    loaded = load(tmp_path, environ={"COMPOSE_FILE": "a/one.yaml:two.yaml"})
    assert len(loaded.files) == 2
    loaded = load(tmp_path, environ={"COMPOSE_FILE": "a/one.yaml|two.yaml", "COMPOSE_PATH_SEPARATOR": "|"})
    assert len(loaded.files) == 2
    loaded = load(tmp_path, files=["a/one.yaml"], project_directory="b")
    assert loaded.project.working_dir == f"{tmp_path}/b"


def test_standard_input(tmp_path: pathlib.Path) -> None:
    loaded = load(tmp_path, files=["-"], stdin=ONE.encode())
    assert (loaded.files, loaded.project.working_dir) == (["-"], str(tmp_path))
    error = refused(tmp_path, files=["-"], stdin=b"services: 3\n")
    assert (error.file, error.line) == ("<stdin>", 1)


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, ONE, "myproject_1"),
        ({}, f"name: In-File\n{ONE}", "in-file"),
        ({"environ": {"COMPOSE_PROJECT_NAME": "env"}}, f"name: file\n{ONE}", "env"),
        ({"environ": {"COMPOSE_PROJECT_NAME": "env"}, "project_name": "given"}, f"name: file\n{ONE}", "given"),
        ({"environ": {"N": "variable"}}, f"name: $N\n{ONE}", "variable"),
    ],
)
def test_names(tmp_path: pathlib.Path, options: dict[str, object], text: str, expected: str) -> None:
    folder = tmp_path / "My.Project_1"
    folder.mkdir()
    loaded = load(folder, text + "x-n: ${COMPOSE_PROJECT_NAME}\n", **options)
    assert loaded.project.name == expected
    assert loaded.canonical["x-n"] == expected
    assert loaded.canonical["networks"]["default"]["name"] == f"{expected}_default"


def test_a_name_that_is_none(tmp_path: pathlib.Path) -> None:
    assert "-p" in refused(tmp_path, ONE, project_name="Not This").message
    folder = tmp_path / "..."
    folder.mkdir()
    assert "project name" in refused(folder, ONE).message


PROFILES = """
services:
  web: {image: x}
  debug: {image: x, profiles: [debug], depends_on: [tool]}
  tool: {image: x, profiles: [debug, tools], networks: [t]}
networks: {t: {}}
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["web"]),
        ({"profiles": ["tools"]}, ["tool", "web"]),
        ({"profiles": ["*"]}, ["debug", "tool", "web"]),
        ({"environ": {"COMPOSE_PROFILES": "none, debug"}}, ["debug", "tool", "web"]),
        ({"services": ["debug"]}, ["debug", "tool", "web"]),
        ({"services": ["web"]}, ["web"]),
    ],
)
def test_profiles(tmp_path: pathlib.Path, options: dict[str, object], expected: list[str]) -> None:
    loaded = load(tmp_path, PROFILES, **options)
    assert sorted(loaded.project.services) == expected
    assert sorted([*loaded.project.services, *loaded.project.disabled_services]) == ["debug", "tool", "web"]
    assert ("t" in loaded.project.networks) == ("tool" in expected)


def test_a_dependency_that_no_profile_enables(tmp_path: pathlib.Path) -> None:
    text = "services: {web: {image: x, depends_on: {db: {condition: service_started, required: REQUIRED}}}, db: {image: y, profiles: [p]}}"
    assert "--profile p" in (refused(tmp_path, text.replace("REQUIRED", "true")).hint or "")
    assert load(tmp_path, text.replace("REQUIRED", "false"))


def test_resources_that_nobody_uses_are_left_out(tmp_path: pathlib.Path) -> None:
    text = ONE + "volumes: {v: {}}\nnetworks: {n: {}}\nsecrets: {s: {file: s}}\n"
    assert not load(tmp_path, text).project.volumes
    every = load(tmp_path, text, all_resources=True).project
    assert (list(every.volumes), list(every.secrets)) == (["v"], ["s"])
