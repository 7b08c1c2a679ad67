"""What COPY's sources name: BuildKit's rules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devenv import errors
from devenv.build import context, ignore, selection
from devenv.util import tree as removal


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for path in ("a.txt", "b.md", "src/main.py", "src/deep/down/x.txt", "src/deep/y.md", "one/same", "two/same"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "link.txt").symlink_to("a.txt")
    (tmp_path / "linked").symlink_to("src")
    (tmp_path / "outside").symlink_to("/etc")
    (tmp_path / "src" / "inner").symlink_to("main.py")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.fixture
def tree(place: Path) -> Iterator[context.Tree]:
    with context.folder(str(place)) as opened:
        yield opened


def hidden(place: Path, text: str) -> context.Tree:
    return context.folder(str(place), matcher=ignore.read(text.encode(), file=str(place / ".dockerignore")))


def shown(chosen: selection.Selection) -> list[list[str]]:
    """A root's name, then what is in it; an implied folder in brackets."""
    return [
        [root.name, *(f"({entry.relative})" if entry.implied else entry.relative for entry in root.entries[1:])]
        for root in chosen.roots
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.txt", [["a.txt"]]),
        ("/a.txt", [["a.txt"]]),
        ("../../a.txt", [["a.txt"]]),
        ("*.txt", [["a.txt"], ["link.txt"]]),
        ("nothing*", []),
        ("nowhere/*.txt", []),
        ("*/same", [["same"], ["same"]]),
        ("*/deep/*.md", [["y.md"]]),
        ("src/deep", [["deep", "down", "down/x.txt", "y.md"]]),
        ("src/deep/", [["deep", "down", "down/x.txt", "y.md"]]),
        ("linked/deep", [["deep", "down", "down/x.txt", "y.md"]]),
        ("linked/*.py", [["main.py"]]),
        ("empty", [["empty"]]),
    ],
)
def test_sources(tree: context.Tree, source: str, expected: list[list[str]]) -> None:
    assert shown(selection.select(tree, [source])) == expected


def test_a_link_that_is_named_is_followed_one_within_stays(tree: context.Tree) -> None:
    chosen = selection.select(tree, ["link.txt", "src"])
    assert [chosen.roots[0].name, chosen.roots[0].path] == ["link.txt", "a.txt"]
    inner = next(entry for entry in chosen.roots[1].entries if entry.relative == "inner")
    assert os.path.islink(f"{tree.name}/{inner.path}")


def test_a_link_never_leads_out(tree: context.Tree) -> None:
    with pytest.raises(errors.BuildError, match="`outside/passwd` is not in"):
        selection.select(tree, ["outside/passwd"])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("src/deep/y.md", [["", "(src)", "(src/deep)", "src/deep/y.md"]]),
        ("./src/deep/down/", [["", "(src)", "(src/deep)", "src/deep/down", "src/deep/down/x.txt"]]),
        ("src/./deep/down", [["deep", "(deep)", "deep/down", "deep/down/x.txt"]]),
        ("src/./deep/./down", [["deep", "(deep)", "deep/down", "deep/down/x.txt"]]),
        ("src/**/*.md", [["", "(src)", "(src/deep)", "src/deep/y.md"]]),
        ("*/./same", [["", "same"], ["", "same"]]),  # and of no file, nor of a link to nowhere
        ("nothing*/x", [[""]]),
    ],
)
def test_parents(tree: context.Tree, source: str, expected: list[list[str]]) -> None:
    found = shown(selection.select(tree, [source], parents=True))
    assert [each[1:] for each in found if len(each) > 1 or expected == [[""]]] == [each[1:] for each in expected]


def test_parents_of_what_is_missing(tree: context.Tree) -> None:
    with pytest.raises(errors.BuildError, match="`src/nothing` is not in"):
        selection.select(tree, ["src/nothing"], parents=True)


@pytest.mark.parametrize(
    ("sources", "excludes", "expected"),
    [
        (["src"], ["**/*.txt"], [["src", "deep", "deep/down", "deep/y.md", "inner", "main.py"]]),
        (["src"], ["deep"], [["src", "inner", "main.py"]]),
        (["src"], ["deep", "!deep/y.md"], [["src", "(deep)", "deep/y.md", "inner", "main.py"]]),
        (["*.*"], ["*.md"], [["a.txt"], ["link.txt"]]),
        (["a.txt"], ["*.txt"], [["a.txt"]]),  # what is named outright is wanted
    ],
)
def test_excludes(tree: context.Tree, sources: list[str], excludes: list[str], expected: list[list[str]]) -> None:
    assert shown(selection.select(tree, sources, excludes=excludes)) == expected


def test_what_is_ignored_is_not_there(place: Path) -> None:
    with hidden(place, "src\n!src/deep/*.md\nempty\n*.txt\n") as tree:
        assert shown(selection.select(tree, ["."])) == [
            [
                "",
                "b.md",
                "linked",
                "one",
                "one/same",
                "outside",
                "(src)",
                "(src/deep)",
                "src/deep/y.md",
                "two",
                "two/same",
            ]
        ]
        assert shown(selection.select(tree, ["src"])) == [["src", "(deep)", "deep/y.md"]]
        assert shown(selection.select(tree, ["*.txt"])) == []
        with pytest.raises(errors.BuildError, match=r"`src` in `\.dockerignore` leaves `src/main\.py` out") as caught:
            selection.select(tree, ["src/main.py"])
        assert caught.value.hint is not None
        assert "line 1" in caught.value.hint
        with pytest.raises(errors.BuildError, match=r"leaves `link\.txt` out"):
            selection.select(tree, ["link.txt"])


def test_a_link_to_what_is_ignored_leads_nowhere(place: Path) -> None:
    with hidden(place, "a.txt\n") as tree, pytest.raises(errors.BuildError, match=r"leaves `a\.txt` out"):
        selection.select(tree, ["link.txt"])


def test_a_folder_that_is_left_out_is_not_entered(place: Path) -> None:
    os.chmod(place / "src" / "deep", 0)
    try:
        with hidden(place, "src/deep\n") as tree:
            assert shown(selection.select(tree, ["src"])) == [["src", "inner", "main.py"]]
    finally:
        os.chmod(place / "src" / "deep", 0o755)


def test_a_missing_source_names_itself(tree: context.Tree) -> None:
    with pytest.raises(errors.BuildError, match="`nothing/here` is not in") as caught:
        selection.select(tree, ["a.txt", "nothing/here"])
    assert caught.value.hint == "paths are relative to the context's folder"


def test_a_loop_of_links_is_told(place: Path) -> None:
    (place / "round").symlink_to("about")
    (place / "about").symlink_to("round")
    with context.folder(str(place)) as tree, pytest.raises(errors.BuildError, match="Too many levels"):
        selection.select(tree, ["round"])


def test_what_is_selected_again_is_as_it_was(place: Path, tree: context.Tree) -> None:
    """A step's key is made of what was found first; what it copies must not be newer."""
    first = selection.select(tree, ["src"])
    (place / "src" / "new").write_text("new")
    assert selection.select(tree, ["src"]) is first
    tree.forget(first)
    assert "new" in shown(selection.select(tree, ["src"]))[0]


def test_folders_without_end_are_refused(place: Path, tree: context.Tree) -> None:
    deep = place / "empty"
    before = os.open(deep, os.O_RDONLY)
    for _ in range(700):
        os.mkdir("d", dir_fd=before)
        inner = os.open("d", os.O_RDONLY, dir_fd=before)
        os.close(before)
        before = inner
    os.close(before)
    try:
        with pytest.raises(errors.BuildError, match="nested too deeply"):
            selection.select(tree, ["empty"])
    finally:
        removal.remove(str(deep))  # pytest can't
