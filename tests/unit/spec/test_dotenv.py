"""The grammar of env files, and where they count."""

from __future__ import annotations

import pathlib

import pytest

from devenv import errors
from devenv.spec import dotenv
from tests.unit.spec.support import load, refused, service, write


def parse(text: str, surroundings: dict[str, str] | None = None, *, raw: bool = False) -> dict[str, str]:
    found: dict[str, str] = {}
    read = dotenv.parse_raw if raw else dotenv.parse
    read(text, found, (surroundings or {}).get)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nB=2\n", {"A": "1", "B": "2"}), ("A=1\r\nB=2", {"A": "1", "B": "2"}), ("# c\n\n  A = 1 \n", {"A": "1"}),
        ("A=a b # c", {"A": "a b"}), ("A=a#b", {"A": "a#b"}), ('A="a # b"', {"A": "a # b"}), ("A='a $B'", {"A": "a $B"}),
        ('A="a\\nb\\t\\"c\\""', {"A": 'a\nb\t"c"'}), ("A='a\\nb'", {"A": "a\\nb"}), ('A="two\nlines"', {"A": "two\nlines"}),
        ("export A=1", {"A": "1"}), ("A: 1", {"A": "1"}), ("A=", {"A": ""}), ("A", {}), ("IN", {"IN": "i"}),
        ("A=1\nB=${A}-$IN", {"A": "1", "B": "1-i"}), ('A="\\$IN"', {"A": "$IN"}), ("A=$$IN", {"A": "$IN"}),
        ("A=${NO:-d}", {"A": "d"}), ("A.b-c=1", {"A.b-c": "1"}), ("A='it''s'", None), ("A=b=c", {"A": "b=c"}),
        ("\ufeffA=1".removeprefix("\ufeff"), {"A": "1"}), ('A="x" # c\nB=1', None), ("A='x'\nB=1", {"A": "x", "B": "1"}),
    ],
)  # fmt: skip
def test_lines(text: str, expected: dict[str, str] | None) -> None:
    if expected is None:
        # What comes after a closing quote is a statement of its own; here none that makes sense, or a comment.
        try:
            assert "A" in parse(text, {"IN": "i"})
        except errors.SpecError as error:
            assert error.line == 1
        return
    assert parse(text, {"IN": "i"}) == expected


@pytest.mark.parametrize("text", ["A B=1", "=1", "A=${", 'ok=1\nA="x', "A!=1", "A={x}\n(b)=1"])
def test_errors_say_the_line(text: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        parse(text)
    assert caught.value.line == text.count("\n") + 1


def test_raw_is_to_the_letter() -> None:
    assert parse('A="x $B" # c\n # n\nIN\nC=\'\n', {"IN": "i"}, raw=True) == {"A": '"x $B" # c', "IN": "i", "C": "'"}


def test_environment_over_env_file_over_earlier_ones(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"a.env": "A=a\nB=a\nC=a\nD=$X\n", "b.env": "B=b\n"})
    text = (
        "services: {web: {image: x, env_file: [a.env, b.env, {path: no.env, required: false}], environment: [C=c, X]}}"
    )
    found = service(tmp_path, text, environ={"X": "x"})
    assert found["environment"] == {"A": "a", "B": "b", "C": "c", "D": "x", "X": "x"}
    assert "env_file" not in found


def test_a_missing_env_file_says_where_it_is_asked_for(tmp_path: pathlib.Path) -> None:
    error = refused(tmp_path, "services:\n  web:\n    image: x\n    env_file: no.env\n")
    assert error.line == 4
    assert "no.env" in error.message
    assert "env_file" in load(tmp_path, resolve_env=False).canonical["services"]["web"]


def test_dot_env_fills_in_and_the_shell_wins(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {".env": "A=file\nB=file\n"})
    text = "services: {web: {image: '$A-$B'}}"
    assert service(tmp_path, text, environ={"B": "shell"})["image"] == "file-shell"
    assert service(tmp_path, text, environ={"COMPOSE_DISABLE_ENV_FILE": "1"})["image"] == "-"
    write(tmp_path, {"one.env": "A=1\n", "two.env": "A=2\nB=$A\n"})
    assert service(tmp_path, text, env_files=["one.env", "two.env"])["image"] == "2-2"
    assert service(tmp_path, text, environ={"COMPOSE_ENV_FILES": "two.env,one.env"})["image"] == "1-2"
    assert "no env file" in refused(tmp_path, text, env_files=["no.env"]).message


def test_label_files(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"labels": "a=1\nb=1\n"})
    found = service(tmp_path, "services: {web: {image: x, label_file: labels, labels: {b: 2}}}")
    assert found["labels"] == {"a": "1", "b": "2"}
