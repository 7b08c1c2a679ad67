"""The JSON Schema in docs/ and the example file are what the grammar says."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jsonschema
import pytest

from devenv.spec import grammar, model, schema, source, tables
from tests.unit.spec.support import CORPUS, load

REPOSITORY = pathlib.Path(__file__).parents[3]
EXAMPLE = REPOSITORY / "devenv.yaml.example"
VALIDATOR = jsonschema.Draft202012Validator(schema.schema())
BAD_SHAPE = {"compose-go/loader/testdata/compose-include-cycle.yaml"}


def documents(path: pathlib.Path) -> list[Any]:
    return [document.value for document in source.Source(path.name, path.read_text()).documents()]


def names(node: Any) -> set[str]:
    """Every attribute of the grammar, as ``parent.attribute``."""
    found: set[str] = set()

    def walk(node: Any, above: str) -> None:
        if isinstance(node, grammar.Items):
            walk(node.item, above)
        elif isinstance(node, grammar.Either):
            for option in node.options:
                walk(option, above)
        elif isinstance(node, grammar.Object):
            for name, value in node.fields.items():
                if name != "version":
                    found.add(name)
                    walk(value, name)
            if node.values is not None:
                walk(node.values, above)

    walk(node, "")
    return found


def test_it_is_valid_and_up_to_date() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    assert (REPOSITORY / "docs" / "devenv.schema.json").read_text() == schema.text(), (
        "run `devenv config --schema -o docs/devenv.schema.json`"
    )


def test_it_accepts_the_example() -> None:
    for document in documents(EXAMPLE):
        VALIDATOR.validate(document)


@pytest.mark.parametrize(
    "path",
    sorted((CORPUS / "compose").rglob("*compose*.y*ml")),
    ids=lambda path: str(path.relative_to(CORPUS / "compose")),
)
def test_it_accepts_the_corpus(path: pathlib.Path) -> None:
    for document in documents(path):
        VALIDATOR.validate(document)


def test_it_refuses_a_misspelt_attribute_and_a_wrong_type() -> None:
    assert not VALIDATOR.is_valid({"services": {"web": {"image": "x", "prots": []}}})
    assert not VALIDATOR.is_valid({"services": {"web": {"image": "x", "ports": 80}}})
    assert VALIDATOR.is_valid({"services": {"web": {"image": "x", "x-mine": 1}}})


def test_the_example_shows_every_attribute_and_loads(tmp_path: pathlib.Path) -> None:
    text = EXAMPLE.read_text()
    missing = {name for name in names(grammar.SPEC) if f"{name}:" not in text}
    assert not missing
    (tmp_path / "plain.env").write_text("A=1\n")
    (tmp_path / "plain.labels").write_text("b=2\n")
    few = load(tmp_path, text)
    assert list(few.project.services) == ["web"]
    every = load(tmp_path, text, profiles=["*"])
    assert len(every.project.services) > 10


def test_the_grammar_has_all_of_compose() -> None:
    """Counted in the Compose schema of 2026-07; ready, proxy, once and x-devenv are devenv's."""
    assert len(grammar.SERVICE.fields) == 93 + 4


def test_the_tables_and_the_model_cover_the_grammar() -> None:
    gone = {"extends", "pull_refresh_after", "x-devenv"}  # resolved, or without a canonical form in compose
    assert set(grammar.SERVICE.fields) - gone == set(tables.SERVICE.fields)
    assert set(tables.SERVICE.fields) == set(model.Service.model_fields)
    for section, (node, kind) in {
        "networks": (grammar.NETWORK, model.Network),
        "volumes": (grammar.VOLUME, model.Volume),
    }.items():
        assert set(node.fields) == set(tables.SECTIONS[section].fields) == set(kind.model_fields)


def test_the_text_is_json() -> None:
    assert json.loads(schema.text())["$schema"] == "https://json-schema.org/draft/2020-12/schema"
