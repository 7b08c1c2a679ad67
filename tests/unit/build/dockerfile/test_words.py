"""The frontend's words: the facts are those of BuildKit's shell lexer, whose operators are not all a shell's."""

from __future__ import annotations

import pytest

from devenv.build.dockerfile import words

ENV = {"name": "world", "empty": "", "path": "/usr/lib/a.tar.gz", "spaced": "a  b", "deep": "x", "é": "accent"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$name", "world"),
        ("${name}s", "worlds"),
        ("$names", ""),
        ("$unset|${unset}", "|"),
        ("a b  c", "a b  c"),
        ("'$name'", "$name"),
        ('"$name"', "world"),
        ('"a\\"b"', 'a"b'),
        ('"a\\nb\\\\"', "a\\nb\\"),
        ("\\$name", "$name"),
        ('"\\$name"', "$name"),
        ("a\\ b\\", "a b"),
        ("'it'\"'\"'s'", "it's"),
        ("$", "$"),
        ("$.", "$."),
        ("$$", ""),
        ("$1x", "x"),
        ("${é}$é", "accentaccent"),
        ("${unset:-$name}", "world"),
        ("${empty:-w}|${empty-w}|${unset-w}|${name:-w}", "w||w|world"),
        ("${name:+w}|${empty:+w}|${empty+w}|${unset+w}", "w||w|"),
        ("${name:?no}${name?no}", "worldworld"),
        ("${unset:-${unset:-${name}}}", "world"),
        ('${unset:-"a}b"}', "a}b"),
        ("${unset:-a\\}b}", "a}b"),
        ("${path#*/}|${path##*/}", "usr/lib/a.tar.gz|a.tar.gz"),
        ("${path%.*}|${path%%.*}", "/usr/lib/a.tar|/usr/lib/a"),
        ("${path#/???/}", "lib/a.tar.gz"),
        ("${path/lib/bin}|${path//\\//-}", "/usr/bin/a.tar.gz|-usr-lib-a.tar.gz"),
        ("${path//a*/z}", "/usr/lib/z"),
        ("${name//*/z}", "z"),
        ("${unset/a/b}", ""),
        ("${name#[w]}", "world"),
        ("<<  a", "<<  a"),
    ],
)
def test_expands(text: str, expected: str) -> None:
    assert words.expand(text, ENV) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${", "missing `}`"),
        ("${name", "missing `}`"),
        ("${name:-x", "missing `}`"),
        ("${}", "has to be followed"),
        ("${:x}", "has to be followed"),
        ("${name!x}", "no substitution"),
        ("${name:#x}", "no substitution"),
        ("${name/a}", "missing `/`"),
        ("${name#\\a}", "escapes nothing"),
        ("'open", "single quote"),
        ('"open', "double quote"),
        ("${unset?}", "unset: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("${unset:?say $name}", "unset: say world"),
        ("${a:-" * 5000, "too deeply"),
    ],
)
def test_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(words.WordError, match=message.replace("$", "\\$").replace("`}`", "`}`")):
        words.expand(text, ENV)


def test_the_escape_character_is_the_files() -> None:
    assert words.expand("C:\\a`$name", ENV, escape="`") == "C:\\a$name"
    assert words.expand("C:\\a", ENV) == "C:a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ["a", "b"]),
        ("$spaced", ["a", "b"]),
        ("'a b'$spaced", ["a ba", "b"]),
        ('"$spaced"', ["a  b"]),
        ("a\\ b", ["a b"]),
        ("'' \"\"", []),
        ("8${unset:-0}80/tcp", ["8080/tcp"]),
    ],
)
def test_splits_after_the_expansion(text: str, expected: list[str]) -> None:
    assert words.expand_words(text, ENV) == expected


def test_quotes_in_a_document_are_text() -> None:
    assert words.expand_document('it\'s "$name" \\$name\n', ENV) == 'it\'s "world" $name\n'


def test_tells_which_variables_were_looked_up() -> None:
    found = words.process("$name ${unset:-$other} ${empty:+$deep} '$quoted' \\$escaped", ENV)
    assert found.used == {"name", "empty", "deep"}
    assert found.undefined == {"unset", "other"}


def test_can_leave_quotes_escapes_and_the_unset_as_written() -> None:
    found = words.process("'a' \\b $x ${y} ${z:-w}", ENV, raw_quotes=True, raw_escapes=True, keep_unset=True)
    assert found.text == "'a' \\b $x ${y} ${z:-w}"


@pytest.mark.parametrize("operator", ["#", "##", "%", "%%", "//"])
def test_no_pattern_takes_long(operator: str) -> None:
    end = "/" if operator == "//" else ""
    assert words.expand(f"${{v{operator}*a*a*a*a*a*a*b{end}}}", {"v": "a" * 2000}) == "a" * 2000


@pytest.mark.parametrize(
    ("text", "expected"),
    [("${v#*b*}", "cbd"), ("${v##*b}", "d"), ("${v%b*}", "abc"), ("${v/?*b/}", "d"), ("${v#**c}", "bd")],
)
def test_the_shortest_and_the_longest(text: str, expected: str) -> None:
    assert words.expand(text, {"v": "abcbd"}) == expected
