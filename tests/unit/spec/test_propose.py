from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from devenv.build.dockerfile import parser
from devenv.spec import propose
from tests.unit.spec.test_errors import load

NODE = json.dumps({"scripts": {"dev": "vite"}, "dependencies": {"vite": "1", "pg": "8"}})


def services(tmp_path: pathlib.Path, files: dict[str, str]) -> dict[str, Any]:
    """Those of the proposal, which is a spec that loads, with Dockerfiles that can be read."""
    proposal = propose.propose("My Shop", files)
    assert proposal is not None
    loaded = load(tmp_path, proposal.text)
    assert loaded.project.name == "myshop"
    found: dict[str, Any] = loaded.canonical["services"]
    for service in found.values():
        inline = (service.get("build") or {}).get("dockerfile_inline")
        if inline:
            assert parser.parse(inline, file="Dockerfile").stages
    return found


def test_a_web_app_with_its_stores(tmp_path: pathlib.Path) -> None:
    found = services(tmp_path, {"requirements.txt": "Django\npsycopg[binary]\ncelery[redis]\n", "manage.py": ""})
    assert sorted(found) == ["app", "app-worker", "cache", "db"]
    app = found["app"]
    assert app["command"] == ["python", "manage.py", "runserver", "0.0.0.0:8000"]
    assert app["environment"]["DATABASE_URL"] == "postgres://app:app@db:5432/app"
    assert {name: terms["condition"] for name, terms in app["depends_on"].items()} == {
        "cache": "service_healthy",
        "db": "service_healthy",
    }
    assert found["db"]["ready"] == "postgres"
    assert [rule["action"] for rule in app["develop"]["watch"]] == ["rebuild", "sync"]


def test_folders_are_services(tmp_path: pathlib.Path) -> None:
    found = services(tmp_path, {"web/package.json": NODE, "api/go.mod": "module x", "site/index.html": ""})
    assert sorted(found) == ["api", "db", "site", "web"]
    assert found["web"]["ports"][0]["published"] == "5173"
    assert found["web"]["build"]["context"].endswith("/web")
    assert "depends_on" not in found["api"]


def test_its_own_dockerfile_says_what_runs(tmp_path: pathlib.Path) -> None:
    found = services(tmp_path, {"Dockerfile": "FROM x\nEXPOSE 9000\n", "package.json": NODE})
    assert found["app"]["command"] is None
    assert found["app"]["ports"][0]["target"] == 9000
    assert "dockerfile_inline" not in found["app"]["build"]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"requirements.txt": "flask"}, "a Flask project"),
        ({"pyproject.toml": 'dependencies = ["fastapi"]'}, "a FastAPI project"),
        ({"Pipfile": ""}, "a Python project"),
        ({"Gemfile": "gem 'rails'\ngem 'sidekiq'"}, "a Rails project"),
        ({"composer.json": "{}"}, "a PHP project"),
        ({"Cargo.toml": ""}, "a Rust project"),
        ({"pom.xml": ""}, "a Maven project"),
        ({"package.json": "broken"}, "a Node project"),
        ({"package.json": "[1]", "yarn.lock": ""}, "a Node project"),
        ({"index.html": ""}, "a static site"),
        ({"index.php": ""}, "PHP pages"),
        ({"main.py": ""}, "a Python script"),
        ({"Dockerfile": ""}, "a Dockerfile"),
    ],
)
def test_what_is_recognised(tmp_path: pathlib.Path, files: dict[str, str], what: str) -> None:
    assert services(tmp_path, files)
    proposal = propose.propose("x", files)
    assert proposal is not None
    assert proposal.found[0] == f"{what} in `.`"


def test_a_low_port_is_published_on_one_that_everybody_may(tmp_path: pathlib.Path) -> None:
    (port,) = services(tmp_path, {"index.html": ""})["app"]["ports"]
    assert (port["published"], port["target"]) == ("8080", 80)


def test_nothing_is_recognised() -> None:
    assert propose.propose("x", {}) is None
