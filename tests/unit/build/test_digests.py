"""A selection's digest: what counts, what doesn't, and what is read for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devenv.build import context, digests, inside, memory, selection

OLD = 1_600_000_000


def digest(place: Path, *sources: str, known: memory.Memory | None = None, owned: bool = False) -> str:
    with context.folder(str(place), known=known, owned=owned) as tree:
        return selection.select(tree, sources or ["."]).digest()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    where = tmp_path / "context"
    (where / "sub").mkdir(parents=True)
    (where / "a").write_text("one")
    (where / "sub" / "b").write_text("two")
    (where / "link").symlink_to("a")
    return where


@pytest.mark.parametrize(
    "change",
    [
        lambda place: (place / "a").write_text("eno"),
        lambda place: (place / "a").rename(place / "c"),
        lambda place: (place / "a").chmod(0o755),
        lambda place: (place / "sub").chmod(0o700),
        lambda place: (place / "new").write_text(""),
        lambda place: (place / "new").mkdir(),
        lambda place: ((place / "link").unlink(), (place / "link").symlink_to("sub")),
        lambda place: os.setxattr(place / "a", "user.note", b"x"),
    ],
)
def test_changes_that_count(place: Path, change: Callable[[Path], object]) -> None:
    before = digest(place)
    change(place)
    assert digest(place) != before


def test_changes_that_dont(place: Path) -> None:
    before = digest(place)
    os.utime(place / "a", (OLD, OLD))
    os.utime(place / "sub", (OLD, OLD))
    place.chmod(0o700)  # what is in it is copied, not itself
    assert digest(place) == before


def test_the_same_content_elsewhere_has_the_same_digest(place: Path, tmp_path: Path) -> None:
    before = digest(place, "sub")
    place.rename(tmp_path / "moved")
    assert digest(tmp_path / "moved", "sub") == before


def test_names_of_files_and_their_order_count(place: Path) -> None:
    (place / "sub" / "a").write_text("one")
    assert digest(place, "a") == digest(place, "sub/a")
    assert digest(place, "a", "sub/b") != digest(place, "sub/b", "a")


def test_inline_files() -> None:
    one = selection.inline([("a", "x"), ("b", "y")]).digest()
    assert one == selection.inline([("a", "x"), ("b", "y")]).digest()
    assert one != selection.inline([("a", "xb"), ("", "y")]).digest()


@pytest.fixture
def remembered(tmp_path: Path) -> Callable[[], memory.Memory]:
    return lambda: memory.of_folder(str(tmp_path / "data"), str(tmp_path / "context"))


def settle() -> None:
    """Past the tick of the clock in which a change might not show."""
    time.sleep(0.07)


def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a file was read")

    monkeypatch.setattr("devenv.build.digests._of_one", refused)


def test_what_has_not_changed_is_not_read_again(
    place: Path, remembered: Callable[[], memory.Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    first = digest(place, known=remembered())
    assert first == digest(place)
    unreadable(monkeypatch)
    assert digest(place, known=remembered()) == first


def test_only_what_has_changed_is_read(
    place: Path, remembered: Callable[[], memory.Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    first = digest(place, known=remembered())
    (place / "a").write_text("more")
    read: list[str] = []
    original = digests._of_one

    def noted(folders: inside.Folders, path: str, *rest: Any) -> Any:
        read.append(path)
        return original(folders, path, *rest)

    monkeypatch.setattr(digests, "_of_one", noted)
    assert digest(place, known=remembered()) != first
    assert read == ["a"]


def test_a_file_as_young_as_the_look_at_it_is_not_trusted(place: Path, remembered: Callable[[], memory.Memory]) -> None:
    """git's racy entries: written again in the same tick, with the same size, it may have the same times."""
    (place / "a").write_text("111")
    before = digest(place, known=remembered())
    assert "a" not in remembered().digests({"a": memory.stamp((place / "a").lstat())})
    (place / "a").write_text("222")
    assert digest(place, known=remembered()) != before


def test_mtimes_that_are_set_back_hide_nothing(place: Path, remembered: Callable[[], memory.Memory]) -> None:
    os.utime(place / "a", (OLD, OLD))
    settle()
    before = digest(place, known=remembered())
    (place / "a").write_text("eno")
    os.utime(place / "a", (OLD, OLD))
    settle()
    assert digest(place, known=remembered()) != before


def test_a_broken_memory_is_no_memory(place: Path, tmp_path: Path, remembered: Callable[[], memory.Memory]) -> None:
    settle()
    first = digest(place, known=remembered())
    for path in (tmp_path / "data").rglob("*.json"):
        path.write_text("{")
    assert digest(place, known=remembered()) == first


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    known = memory.Memory(str(tmp_path / "memory"))
    known.remember({f"old{number}": ([number], "x") for number in range(1500)})
    known.save()
    later = memory.Memory(str(tmp_path / "memory"))
    later.remember({"new": ([1], "y")})
    later.save()
    assert memory.Memory(str(tmp_path / "memory")).digests({"old1": [1], "new": [1]}) == {"new": "y"}


def test_much_data_by_several_threads_is_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        (place / f"large{number}").write_bytes(os.urandom(1 << 18))
    spread = digest(place)
    monkeypatch.setattr("devenv.build.digests._MUCH", 1 << 40)
    assert digest(place) == spread
