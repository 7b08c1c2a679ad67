"""What is wrong is said with its place, as a ``BuildError``; nothing else ever comes out."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devenv import errors
from devenv.build.dockerfile import parser, words

PIECES = [
    *"FROM RUN COPY ADD ENV LABEL ARG CMD ENTRYPOINT HEALTHCHECK ONBUILD SHELL EXPOSE VOLUME USER AS NONE".split(),
    *(" ", "\t", "\n", "\r\n", "\\\n", "`\n", "\\", "`", "#", "# escape=`\n", '"', "'", "[", "]", '["a"]', "=", ","),
    *("a=b", "$a", "${a:-b}", "<<EOF", "<<-'E'", "\nEOF\n", "--from=x", "--mount=type=cache,target=/x", "--", "\0"),
    *("--interval=5s", "--retries=9", "\ufeff", "\ud800", "é", "/a", "[[[[", '"\\ud800"'),
]


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("", 1, 1, "no instructions", "FROM"),
        ("\n# only\n", 1, 1, "no instructions", "FROM"),
        ("ARG a\n", 1, 1, "no FROM", "FROM"),
        ("RUN a\n", 1, 1, "RUN stands before the first FROM", "only ARG"),
        ("# escape=x\nFROM a", 1, 1, "escape character is `x`", "backtick"),
        ("# escape=`\n# Escape=`\nFROM a", 2, 1, "given twice", "once"),
        ("FROM a\n  RNU x\n", 2, 3, "no instruction `RNU`", "did you mean `RUN`?"),
        ("FROM a\nRUN x &&\n  && y\n", 3, 3, "no instruction `&&`", "backslash"),
        ("FROM a\nCOPY --form=x a b\n", 2, 6, "unknown flag `--form`", "did you mean `--from`?"),
        ("FROM a\nCOPY --link \\\n  --link a b\n", 2, 6, "given twice", None),
        ("FROM a\nCOPY --from a b\n", 2, 6, "needs a value", None),
        ("FROM a\nCOPY --link=maybe a b\n", 2, 6, "true or false", None),
        ("FROM a\nCOPY a\n", 2, 1, "source and a destination", None),
        ("FROM a\nCOPY a <<EOF\nEOF\n", 2, 8, "can't be a heredoc", None),
        ("FROM a\nRUN <<EOF\nx\n", 2, 5, "has no end", "`EOF`"),
        ("FROM a\nCMD [1]\n", 2, 5, "strings only", None),
        ("FROM a b\n", 1, 1, "AS name", None),
        ("FROM a AS 1b\n", 1, 11, "can't be a stage's name", "letter"),
        ("FROM a\nENV x\n", 2, 5, "needs a value for `x`", "ENV x=VALUE"),
        ("FROM a\nENV a=b c\n", 2, 9, "no NAME=VALUE", "quote"),
        ("FROM a\nLABEL =x\n", 2, 7, "a name before", None),
        ("FROM a\nARG\n", 2, 1, "at least one", None),
        ("FROM a\nWORKDIR\n", 2, 1, "WORKDIR needs a path", None),
        ("FROM a\nSHELL sh -c\n", 2, 1, "JSON array", "SHELL ["),
        ("FROM a\nHEALTHCHECK\n", 2, 1, "needs a test", "NONE"),
        ("FROM a\nHEALTHCHECK TEST x\n", 2, 13, "knows no `TEST`", "NONE"),
        ("FROM a\nHEALTHCHECK CMD\n", 2, 1, "needs a command", None),
        ("FROM a\nHEALTHCHECK --interval=5 CMD x\n", 2, 24, "no duration", "30s"),
        ("FROM a\nHEALTHCHECK --interval=5us CMD x\n", 2, 24, "less than a millisecond", None),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x\n", 2, 23, "is a number", None),
        ("FROM a\nONBUILD ONBUILD RUN x\n", 2, 1, "can't be a trigger", None),
        ("FROM a\nONBUILD FROM b\n", 2, 9, "can't be a trigger", None),
        ("FROM a\nRUN --network=bridge x\n", 2, 15, "--network `bridge`", "none"),
        ("FROM a\nRUN --mount=type=bind,from=$x y\n", 2, 28, "can't hold variables", "FROM"),
        ("FROM a\nRUN --mount=type=cache,target y\n", 2, 24, "needs a value", None),
        ("FROM a\nRUN x\0\n", 2, 6, "NUL", None),
    ],
)
def test_places(text: str, line: int, column: int, message: str, hint: str | None) -> None:
    with pytest.raises(errors.BuildError) as caught:
        parser.parse(text, file="Dockerfile")
    assert message in str(caught.value)
    assert (caught.value.file, caught.value.line, caught.value.column) == ("Dockerfile", line, column)
    assert caught.value.excerpt in (None, text.split("\n")[line - 1])
    assert hint in (caught.value.hint or "") if hint else caught.value.hint is None


def test_utf16_is_told_apart() -> None:
    with pytest.raises(errors.BuildError, match="UTF-16"):
        parser.parse("FROM a\n".encode("utf-16"), file="Dockerfile")


def test_other_bytes_are_taken_as_go_takes_them() -> None:
    stage = parser.parse(b"# \xe9\nFROM a\nMAINTAINER \xe9\n", file="Dockerfile").stages[0]
    assert stage.instructions[0].text == "MAINTAINER \ufffd"


def _read(text: str | bytes) -> None:
    with contextlib.suppress(errors.BuildError):
        parser.parse(text, file="Dockerfile")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_pieces_of_the_language(text: str) -> None:
    _read(text)
    _read("FROM a\n" + text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    _read(data)
    _read(b"FROM a\nRUN " + data)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*"${}:-+?#%/\\`'\" a*é<", "${a", "${b:-"]), max_size=30).map("".join))
def test_any_word(text: str) -> None:
    with contextlib.suppress(words.WordError):
        words.expand_words(text, {"a": "x y", "b": ""})


@pytest.mark.parametrize("text", ["[" * 100_000, '["' + "\\" * 9999, "${a" * 9999, "<<" * 9999, "--a " * 9999])
@pytest.mark.parametrize("keyword", ["RUN", "COPY", "ENV", "HEALTHCHECK CMD", "ONBUILD RUN"])
def test_depth_and_length_are_no_matter(keyword: str, text: str) -> None:
    _read(f"FROM a\n{keyword} {text}\n")
