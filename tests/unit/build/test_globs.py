"""Go's filepath.Match and filepath.Clean, by the cases of their own tests."""

from __future__ import annotations

import pytest

from devenv.build import globs


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("ab[b-d]", "abc", True),
        ("ab[^b-d]", "abc", False),
        ("a\\*b", "a*b", True),
        ("a???b", "a☺b", False),
        ("a[^a]b", "a☺b", True),
        ("a?b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[x\\-]", "z", False),
        ("[z-a]", "m", False),
        ("[^z-a]", "m", True),
        ("arr[[]0].txt", "arr[0].txt", True),
        ("a.c", "abc", False),
        ("**/a", "x/a", True),  # two stars are one
        ("**/a", "x/y/a", False),
    ],
)
def test_match(pattern: str, name: str, matches: bool) -> None:
    assert globs.matches(pattern, name) is matches


@pytest.mark.parametrize("pattern", ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[a\\"])
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(globs.BadPattern):
        globs.compiled(pattern)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("", "."),
        ("a//b/./c/", "a/b/c"),
        ("a/../..", ".."),
        ("/../a", "/a"),
        ("//a", "/a"),
        ("../../a/..", "../.."),
    ],
)
def test_clean(path: str, cleaned: str) -> None:
    assert globs.clean(path) == cleaned


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/a/b*/c", ("/a", "b*/c")),
        ("/*.txt", ("/", "*.txt")),
        ("/a/b/", ("/a/b", "")),
        ("/a\\*b", ("/a\\*b", "")),
        ("/", ("/", "")),
    ],
)
def test_split(path: str, parts: tuple[str, str]) -> None:
    assert globs.split(path) == parts
