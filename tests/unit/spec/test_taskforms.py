from __future__ import annotations

import pathlib
from typing import Any

import pytest

from devenv.spec import taskforms
from tests.unit.spec.test_errors import WEB, refused

Task = taskforms.Task


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("make a", Task("t", "make a")),
        (["make", "a"], Task("t", ("make", "a"))),
        ({"depends_on": "a"}, Task("t", (), tasks=("a",))),
        (
            {"command": ["x"], "service": "web", "depends_on": ["a", "service:db"], "inputs": "src", "outputs": ["o"]},
            Task("t", ("x",), "web", tasks=("a",), services=("db",), inputs=("src",), outputs=("o",)),
        ),
        ({"command": "x", "environment": ["A=1", "B"]}, Task("t", "x", environment={"A": "1", "B": None})),
        ({"command": "x", "environment": {"A": True, "B": None}}, Task("t", "x", environment={"A": "true", "B": None})),
    ],
)
def test_forms(given: Any, expected: taskforms.Task) -> None:
    assert taskforms.parse("t", given) == expected


def test_x_devenv_wins() -> None:
    spec = {"tasks": {"a": "one", "b": "two"}, "x-devenv": {"tasks": {"a": "three"}}}
    assert {name: task.command for name, task in taskforms.parse_all(spec).items()} == {"a": "three", "b": "two"}


@pytest.mark.parametrize(
    ("tasks", "line", "words"),
    [
        ("tasks: {a: {description: x}}", 4, "neither a command nor"),
        ("tasks: {a: {command: x, depends_on: [bb]}, b: x}", 4, "undefined task `bb`"),
        ("tasks: {a: {command: x, depends_on: [web]}}", 4, "undefined task `web`"),
        ("tasks: {a: {command: x, service: wbe}}", 4, "undefined service `wbe`"),
        ("tasks: {a: {command: x, depends_on: ['service:x']}}", 4, "undefined service `x`"),
        ("tasks: {a: {command: x, depends_on: b}, b: {command: x, depends_on: a}}", 4, "cycle: a -> b -> a"),
        ("tasks: {a: {comand: x}}", 4, "no attribute `comand`"),
    ],
)
def test_what_is_wrong_is_placed(tmp_path: pathlib.Path, tasks: str, line: int, words: str) -> None:
    error = refused(tmp_path, f"{WEB}{tasks}\n")
    assert words in error.message
    assert error.line == line


def test_a_service_is_written_as_one(tmp_path: pathlib.Path) -> None:
    error = refused(tmp_path, WEB + "tasks: {a: {command: x, depends_on: [web]}}\n")
    assert error.hint == "write `service:web` for the service"
