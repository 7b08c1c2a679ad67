"""What a change to a file means for a service without rules of its own."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from devenv.reconcile import autowatch


def actions(folder: pathlib.Path, dockerfile: str, path: str, **service: Any) -> list[str]:
    """What is done for a change to ``path``: of each rule that is about it, in order."""
    (folder / "Dockerfile").write_text(dockerfile)
    derived = autowatch.make("web", {"build": {"context": str(folder)}, **service}, None)
    full = str(folder / path)
    return [str(each.rule.action) for each in derived if each.rule.covers(full) is not None]


PYTHON = "FROM x\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install\nCOPY . .\nCMD {}\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python main.py", "sync+restart"),
        ("flask run --debug", "sync"),
        ("flask run", "sync+restart"),
        ("python manage.py runserver 0.0.0.0:8000", "sync"),
        ("python manage.py runserver --noreload", "sync+restart"),
        ("uvicorn app:app --reload", "sync"),
        ("gunicorn app:app", "sync+restart"),
        ('["npm", "run", "dev"]', "sync"),
        ('["node", "server.js"]', "sync+restart"),
        ('["node", "--watch", "server.js"]', "sync"),
        ("bin/rails server -b 0.0.0.0", "sync"),
        ("nginx -g 'daemon off;'", "sync"),
    ],
)
def test_a_program_that_looks_for_itself_is_not_restarted(tmp_path: pathlib.Path, command: str, expected: str) -> None:
    assert actions(tmp_path, PYTHON.format(command), "main.py") == [expected]


def test_the_services_own_command_counts(tmp_path: pathlib.Path) -> None:
    text = PYTHON.format("python main.py")
    assert actions(tmp_path, text, "main.py", command=["flask", "run", "--debug"]) == ["sync"]
    assert actions(tmp_path, text, "main.py", command=["flask", "run"], environment={"FLASK_DEBUG": "1"}) == ["sync"]


def test_what_a_step_reads_and_what_says_how_to_build_is_rebuilt_and_not_synced(tmp_path: pathlib.Path) -> None:
    text = PYTHON.format("python main.py")
    assert actions(tmp_path, text, "requirements.txt") == ["rebuild"]
    assert actions(tmp_path, text, "Dockerfile") == ["rebuild"]
    assert actions(tmp_path, text, ".dockerignore") == ["rebuild"]
    assert actions(tmp_path, text, ".git/HEAD") == []


def test_an_image_that_serves_files_is_known_by_its_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "site").mkdir()
    text = "FROM docker.io/library/nginx:1.27\nCOPY site /usr/share/nginx/html\n"
    assert actions(tmp_path, text, "site/index.html") == ["sync"]
    assert actions(tmp_path, text, "README.md") == []


def test_who_has_rules_or_wants_none_gets_none(tmp_path: pathlib.Path) -> None:
    build = {"context": str(tmp_path)}
    assert autowatch.wanted({"build": build})
    assert not autowatch.wanted({"image": "x"})
    assert not autowatch.wanted({"build": build, "x-devenv": {"watch": False}})
    assert not autowatch.wanted({"build": build, "develop": {"watch": [{"path": ".", "action": "rebuild"}]}})
    assert not autowatch.wanted({"build": {"context": "https://example.org/x.git"}})
