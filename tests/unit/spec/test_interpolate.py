"""``${NAME}`` in all its forms."""

from __future__ import annotations

import pathlib

import pytest

from devenv.spec import interpolate
from tests.unit.spec.support import load, refused, service, write

ENVIRONMENT = {"SET": "s", "EMPTY": "", "OTHER": "o"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$SET", "s"), ("${SET}", "s"), ("a${SET}b", "asb"), ("$SETX", ""), ("${SET}X", "sX"),
        ("${SET:-d}", "s"), ("${EMPTY:-d}", "d"), ("${NO:-d}", "d"), ("${NO:-}", ""),
        ("${SET-d}", "s"), ("${EMPTY-d}", ""), ("${NO-d}", "d"),
        ("${SET:+a}", "a"), ("${EMPTY:+a}", ""), ("${NO:+a}", ""),
        ("${SET+a}", "a"), ("${EMPTY+a}", "a"), ("${NO+a}", ""),
        ("${SET:?m}", "s"), ("${EMPTY?m}", ""),
        ("$$SET", "$SET"), ("$${SET}", "${SET}"), ("$$$SET", "$s"), ("5$", "5$"), ("$1", "$1"), ("$", "$"), ("$ SET", "$ SET"),
        ("${NO:-${OTHER}}", "o"), ("${NO:-${NO2:-${SET}}}", "s"), ("${SET:+${OTHER}-x}", "o-x"), ("${NO:-a}${SET}", "as"),
        ('${NO:-{"a":"b"}}', '{"a":"b"}'), ("${NO:-http://h:80/?a=b}", "http://h:80/?a=b"), ("${NO:-a\nb}", "a\nb"),
    ],
)  # fmt: skip
def test_expressions(text: str, expected: str) -> None:
    assert interpolate.substitute(text, ENVIRONMENT.get) == expected


@pytest.mark.parametrize("text", ["${", "${SET", "${}", "${1}", "${SET.x}", "${SET:x}", "${NO:-${SET}", "${ SET}"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(interpolate.BadTemplate):
        interpolate.substitute(text, ENVIRONMENT.get)


@pytest.mark.parametrize("text", ["${NO:?say $SET}", "${EMPTY:?say $SET}", "${NO?say $SET}"])
def test_required(text: str) -> None:
    with pytest.raises(interpolate.Required, match="say s"):
        interpolate.substitute(text, ENVIRONMENT.get)


def test_an_unset_variable_is_warned_of_once(tmp_path: pathlib.Path) -> None:
    loaded = load(tmp_path, "services: {web: {image: 'x${TAG}${TAG}', user: '$TAG'}}")
    assert loaded.warnings == ['the variable "TAG" is not set; it counts as empty']
    assert loaded.canonical["services"]["web"]["image"] == "x"


def test_only_values_and_before_files_merge(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"over.yaml": "services: {web: {labels: {'$K': '$V'}}}"})
    text = "services: {web: {image: x, labels: {'$K': '${V}1'}}}"
    loaded = load(tmp_path, text, files=["compose.yaml", "over.yaml"], environ={"K": "k", "V": "v"})
    assert loaded.canonical["services"]["web"]["labels"] == {"$K": "v"}


def test_types_come_back(tmp_path: pathlib.Path) -> None:
    text = """services: {web: {image: x, privileged: "${P}", cpus: "${C}", scale: "${N}", init: "yes", pids_limit: "7",
      ports: [{target: "${T}"}], ulimits: {nofile: "$N"}, healthcheck: {retries: "4"}}}"""
    found = service(tmp_path, text, environ={"P": "true", "C": "0.5", "N": "2", "T": "80"})
    assert found["privileged"] is True
    assert (found["cpus"], found["scale"], found["init"], found["pids_limit"]) == (0.5, 2, True, 7)
    assert found["ports"][0]["target"] == 80
    assert (found["ulimits"], found["healthcheck"]["retries"]) == ({"nofile": 2}, 4)


@pytest.mark.parametrize(("attribute", "value"), [("privileged", "maybe"), ("scale", "two"), ("cpus", "half")])
def test_a_type_that_does_not_come_back(tmp_path: pathlib.Path, attribute: str, value: str) -> None:
    error = refused(tmp_path, f"services:\n  web:\n    image: x\n    {attribute}: ${{V}}\n", environ={"V": value})
    assert error.line == 4
    assert value in error.message


def test_all_that_is_wrong_is_said_at_once(tmp_path: pathlib.Path) -> None:
    error = refused(tmp_path, "services:\n  web:\n    image: ${A:?first}\n    user: ${\n")
    assert (error.line, error.column) == (3, 12)
    assert "first" in error.message
    assert "compose.yaml:4:11" in (error.note or "")


def test_mentioned_variables() -> None:
    found = interpolate.variables({"a": ["$A ${B:-b$C}", {"d": "${D:+x}"}], "e": "${E?m} $$F"})
    assert sorted(found) == ["A", "B", "C", "D", "E"]
    assert found["B"].default == "b$C"
    assert found["D"].alternate == "x"
    assert found["E"].required
