"""The rules of moby/patternmatcher and moby/patternmatcher/ignorefile."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from devenv import errors
from devenv.build import ignore


def matcher(*patterns: str) -> ignore.Matcher:
    return ignore.Matcher(ignore.of(patterns, what="test"))


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "file", True),
        ("**/", "dir/file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir", False),
        ("dir/**", "dir/dir2/file", True),
        ("**/dir", "dir", True),
        ("**/dir", "dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir3/file", True),
        ("**file", "dir/myfile", True),
        ("**/file", "dir/myfile", False),
        ("**/file*txt", "dir/dir/file.txt", True),
        ("**/**/*.txt", "file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        ("a/*.txt**", "a/file.txt", True),
        ("a[b-d]e", "ace", True),
        ("a[b-d]e", "ae", False),
        ("a[^b-d]e", "aze", True),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcZdef", False),
        ("abc?def", "abc/def", False),
        ("a\\\\", "a\\", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("**/.foo", "bar.foo", False),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
        ("dist/*.whl", "dist/a+b-1.0.whl", True),
        ("docs", "docs/deep/down", True),
        ("docs/", "docs/file", True),
        ("./docs/../docs", "docs", True),
        ("a?b", "a☺b", True),
        ("[a-ζ]*", "β", True),
        ("[]a", "]", None),
        ("[-]", "-", None),
        ("[", "a", None),
        ("[Local-Only]", "x", None),
    ],
)
def test_one_pattern(pattern: str, path: str, matches: bool | None) -> None:
    if matches is None:
        with pytest.raises(errors.BuildError, match="no pattern"):
            matcher(pattern)
    else:
        assert matcher(pattern).matches(path) is matches


@pytest.mark.parametrize(
    ("patterns", "path", "matches"),
    [
        (["!fileutils.go", "*.go"], "fileutils.go", True),
        (["*.go", "!fileutils.go"], "fileutils.go", False),
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["docs/*", "!docs/README.md"], "docs/README.md", False),
        (["docs", "!docs/README.md"], "docs/other", True),
        (["**", "!util/docker/web"], "util/docker/web/foo", False),
        (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
        (["**", "!dist/*.whl"], "dist/a-1.0.whl", False),
        (["*", "!a", "!b", "a/c", "!a/c/d"], "a/c/d", False),
        (["*", "!a", "!b", "a/c", "!a/c/d"], "a/c/e", True),
        (["*", "!a", "!b", "a/c", "!a/c/d"], "b/x", False),
        # The second `dir` isn't asked for `dir`, which matched already, and doesn't match what is in it.
        (["dir", "!dir/file", "dir"], "dir/file", False),
    ],
)
def test_order_decides(patterns: list[str], path: str, matches: bool) -> None:
    assert matcher(*patterns).matches(path) is matches


def test_the_file_itself() -> None:
    data = (
        b"\xef\xbb\xbftest1\r\n/test2\n/a//file/../here/\n\n  lastfile \t\n# a comment\n #not one\n"
        b"! /inverted/abs/path\n/\n"
    )
    read = ignore.read(data, file=".dockerignore").patterns
    assert [("!" if each.exception else "") + each.text for each in read] == [
        "test1",
        "test2",
        "a/here",
        "lastfile",
        "#not one",
        "!inverted/abs/path",
        "/",
    ]
    assert [each.line for each in read] == [1, 2, 3, 5, 7, 8, 9]


def test_a_lone_exclamation_mark_is_refused_with_its_line() -> None:
    with pytest.raises(errors.BuildError) as caught:
        ignore.read(b"*.o\n! \n", file="/x/.dockerignore")
    assert (caught.value.file, caught.value.line, caught.value.excerpt) == ("/x/.dockerignore", 2, "! ")


def test_the_dockerfiles_own_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a\n")
    (tmp_path / "app.Dockerfile.dockerignore").write_text("b\n")
    own = ignore.load(str(tmp_path), str(tmp_path / "app.Dockerfile"))
    shared = ignore.load(str(tmp_path), str(tmp_path / "Dockerfile"))
    assert own is not None
    assert shared is not None
    assert (own.matches("a"), own.matches("b"), shared.matches("a")) == (False, True, True)
    assert ignore.load(str(tmp_path / "none"), "") is None


@pytest.mark.parametrize(
    ("exception", "folder", "may"),
    [
        ("!node_modules/keep/this", "node_modules", True),
        ("!node_modules/keep/this", "node_modules/other", False),
        ("!node_modules", "node_modules", False),
        ("!*/keep", "node_modules", True),
        ("!*/keep", "node_modules/deep", False),
        ("!**/keep", "node_modules/deep/down", True),
    ],
)
def test_folders_are_left_where_nothing_can_be_taken_back(exception: str, folder: str, may: bool) -> None:
    assert matcher("**", exception).may_except(folder) is may


def test_says_which_pattern_decides() -> None:
    rules = ignore.read(b"*.md\n!README*\nREADME-secret.md\nbuild\n", file="x")
    assert [rules.culprit(path) for path in ("a.md", "README.md", "README-secret.md", "build/a/b")] == [
        rules.patterns[0],
        None,
        rules.patterns[2],
        rules.patterns[3],
    ]


def plainly(patterns: list[str], paths: list[str]) -> list[str]:
    """What is left of ``paths``, folders before what is in them: MatchesUsingParentResults, pattern by pattern."""
    each = ignore.of(patterns, what="test")
    states: dict[str, list[bool]] = {"": [False] * len(each)}
    left = []
    for path in paths:
        above, state, matched = states[path.rpartition("/")[0]], [], False
        for pattern, known in zip(each, above, strict=True):
            match = known or (pattern.exception == matched and pattern.expression.fullmatch(path) is not None)
            matched = (not pattern.exception) if match else matched
            state.append(match)
        states[path] = state
        left += [] if matched else [path]
    return left


def test_grouping_and_pruning_change_nothing() -> None:
    """Against the rules as they are written, for patterns and trees by chance."""
    chance = random.Random(7)
    names = ["a", "b", "ab", ".c"]
    paths = [p for depth in range(1, 4) for p in map("/".join, itertools.product(names, repeat=depth))]
    paths.sort()
    pieces = ["a", "b", "a*", "*", "**", "?b", "[ab]", ".c"]
    for _ in range(300):
        patterns = [
            chance.choice(["", "", "!"]) + "/".join(chance.choices(pieces, k=chance.randint(1, 3)))
            for _ in range(chance.randint(1, 6))
        ]
        rules = matcher(*patterns)
        states = {"": rules.root}
        left, pruned = [], ["-"]
        for path in paths:
            if path.startswith(tuple(pruned)):
                continue
            matched, states[path] = rules.step(path, states[path.rpartition("/")[0]])
            if matched and not rules.may_except(path):
                pruned.append(f"{path}/")
            left += [] if matched else [path]
        assert left == plainly(patterns, paths), patterns
