"""Patterns in the words of a `.dockerignore`."""

from __future__ import annotations

import pytest

from devenv.sync import ignore


@pytest.mark.parametrize(
    ("lines", "path", "matches"),
    [
        (["node_modules/"], "node_modules", True),
        (["node_modules/"], "node_modules/left-pad/index.js", True),
        (["node_modules/"], "packages/a/node_modules/b", False),  # anchored, as Docker has it
        (["**/node_modules"], "packages/a/node_modules/b", True),
        (["*.tmp"], "a.tmp", True),
        (["*.tmp"], "b/a.tmp", False),
        (["**/*.tmp"], "b/a.tmp", True),
        (["./build//out/"], "build/out/x", True),
        (["/build"], "build", True),
        (["docs", "!docs/README.md"], "docs/a.md", True),
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["!docs"], "docs", False),
        ([".", ""], "anything", False),
    ],
)
def test_patterns_mean_what_they_mean_in_a_dockerignore(lines: list[str], path: str, *, matches: bool) -> None:
    assert ignore.Patterns(lines).match(path) is matches


def test_a_folder_is_left_out_whole_only_if_nothing_in_it_is_called_back() -> None:
    assert ignore.Patterns(["docs"]).prune("docs")
    assert not ignore.Patterns(["docs", "!docs/README.md"]).prune("docs")


@pytest.mark.parametrize(
    "path",
    [".git/index", "sub/.git/HEAD", "a/4913", "a.py~", "a/.a.py.swp", ".#a", "#a#", "a.py___jb_tmp___", ".idea/x.xml"],
)
def test_what_editors_and_git_write_for_themselves_is_always_ignored(path: str) -> None:
    assert ignore.Patterns(ignore.ALWAYS).match(path)


@pytest.mark.parametrize("path", ["a.swf", "src/main.py", ".gitignore", ".github/ci.yml", "a#b", "4913.txt"])
def test_ordinary_files_are_not(path: str) -> None:
    assert not ignore.Patterns(ignore.ALWAYS).match(path)


@pytest.mark.parametrize(
    ("lines", "folder", "may"),
    [
        (["app.lock"], "src", False),
        (["migrations/"], "migrations", True),
        (["migrations/"], "migrations/deep", True),
        (["a/*/c.txt"], "a", True),
        (["a/*/c.txt"], "a/b", True),
        (["a/*/c.txt"], "b", False),
        (["**/*.snap"], "any/where", True),
        (["lib/**/*.snap"], "lib/x/y", True),
        (["lib/**/*.snap"], "src", False),
        (["!a", "b"], "a", False),
        ([], "a", False),
    ],
)
def test_where_nothing_can_match_nobody_looks(lines: list[str], folder: str, *, may: bool) -> None:
    assert ignore.Patterns(lines).may_match_in(folder) is may
