"""Real files against what docker compose 5.6.1 made of them, and files that it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devenv import errors
from devenv.spec import loader, model, render
from tests.unit.spec import differences
from tests.unit.spec.support import CORPUS

ORACLE = json.loads((CORPUS / "cases.json").read_text())
COMPOSE = CORPUS / "compose"


def environment(directory: str) -> dict[str, str]:
    known: dict[str, dict[str, str]] = ORACLE["environment"]
    return known.get(directory.split("/", maxsplit=1)[0], known["others"])


def without(value: Any, paths: dict[str, str]) -> Any:
    for path in paths:
        *above, last = path.split(".")
        node = value
        for part in above:
            node = node.get(part, {})
        node.pop(last, None)
    return value


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: case["case"])
def test_it_is_what_docker_compose_makes_of_it(case: dict[str, Any]) -> None:
    loaded = loader.load(
        loader.LoadOptions(
            files=case["files"],
            profiles=["*"],
            environ=environment(case["directory"]),
            cwd=str(COMPOSE / case["directory"]),
        )
    )
    expected = json.loads((CORPUS / case["expected"]).read_text().replace("$ROOT", str(COMPOSE)))
    meant = differences.DIFFERENCES.get(case["case"], {})
    assert without(json.loads(render.to_json(loaded.canonical)), meant) == without(expected, meant)


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: case["case"])
def test_the_canonical_form_is_a_project_and_a_spec_again(case: dict[str, Any]) -> None:
    folder = COMPOSE / case["directory"]
    options = {"profiles": ["*"], "environ": environment(case["directory"]), "cwd": str(folder)}
    loaded = loader.load(loader.LoadOptions(files=case["files"], **options))
    sent = json.loads(json.dumps(loaded.canonical))
    again = model.Project.model_validate(sent)
    assert again.services == loaded.project.services
    assert again.working_dir == str(folder)
    text = render.to_yaml(render.yaml_view(loaded.canonical)).encode()
    reloaded = loader.load(loader.LoadOptions(files=["-"], stdin=text, **options))
    assert render.view(reloaded.canonical) == render.view(loaded.canonical)


@pytest.mark.parametrize("path", json.loads((CORPUS / "expected-errors.json").read_text()))
def test_it_refuses_what_docker_compose_refuses(path: str) -> None:
    options = loader.LoadOptions(
        files=[str(COMPOSE / path)], profiles=["*"], environ=ORACLE["environment"]["others"], cwd=str(COMPOSE)
    )
    with pytest.raises(errors.SpecError) as caught:
        loader.load(options)
    assert caught.value.exit_code == 2


def test_a_cycle_is_named_in_full() -> None:
    path = COMPOSE / "compose-go/loader/testdata/compose-depends-on-cycle.yaml"
    with pytest.raises(errors.SpecError, match="service1 -> service2 -> service3 -> service1"):
        loader.load(loader.LoadOptions(files=[str(path)], environ={}, cwd="/"))
