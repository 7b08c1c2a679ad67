"""Ranges of ids: lent by /etc/subuid or taken from those for containers, one for each project."""

from __future__ import annotations

import pathlib

import pytest

from devenv import errors
from devenv.runtime import subids
from devenv.util import paths


@pytest.fixture
def where(tmp_path: pathlib.Path) -> paths.Paths:
    return paths.Paths(data=f"{tmp_path}/d", run=f"{tmp_path}/r")


@pytest.fixture
def etc(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder


def lend(etc: pathlib.Path, text: str, *names: str) -> None:
    for name in names or ("subuid", "subgid"):
        (etc / name).write_text(text)


def test_a_project_keeps_its_range_and_shares_it_with_none(where: paths.Paths, etc: pathlib.Path) -> None:
    given = {name: subids.allocate(where, name, etc=str(etc)) for name in "abcdefgh"}
    assert {name: subids.allocate(where, name, etc=str(etc)) for name in "abcdefgh"} == given
    assert len({each.first for each in given.values()}) == 8
    for each in given.values():
        assert each.size == 65536
        assert subids.DEFAULT.first <= each.first
        assert each.end <= subids.DEFAULT.end


def test_what_others_are_lent_is_passed_over(where: paths.Paths, etc: pathlib.Path) -> None:
    first = subids.allocate(where, "a", etc=str(etc))
    lend(etc, f"alice:{first.first + 7}:1\n", "subgid")
    assert not subids.allocate(where, "a", etc=str(etc)).overlaps(subids.Range(first.first + 7, 1))


@pytest.mark.parametrize("owner", subids.OWNERS)
def test_a_range_that_is_lent_is_used_up_and_given_back(where: paths.Paths, etc: pathlib.Path, owner: str) -> None:
    lend(etc, f"alice:100000:65536\n{owner}:200000:131080\n")
    found = [subids.allocate(where, name, etc=str(etc)).first for name in "ab"]
    assert sorted(found) == [200000, 265536]
    with pytest.raises(errors.HostError, match="all 2 ranges of ids"):
        subids.allocate(where, "c", etc=str(etc))
    subids.release(where, "a")
    assert subids.allocate(where, "c", etc=str(etc)).first == found[0]


@pytest.mark.parametrize(
    ("uids", "gids"), [("devenv:200000:65536", "devenv:300000:65536"), ("devenv:1:9", "devenv:1:9")]
)
def test_a_range_that_is_no_use_is_an_error(where: paths.Paths, etc: pathlib.Path, uids: str, gids: str) -> None:
    lend(etc, uids, "subuid")
    lend(etc, gids, "subgid")
    with pytest.raises(errors.HostError, match="no range of 65536 ids"):
        subids.allocate(where, "a", etc=str(etc))


def test_lines_are_read_by_name_and_by_number(etc: pathlib.Path) -> None:
    lend(etc, "root:100:5\n0:200:6\n# a comment\nbroken\nother:1:1\n")
    assert subids.of_user(f"{etc}/subuid", 0) == [subids.Range(100, 5), subids.Range(200, 6)]
    assert subids.of_user(f"{etc}/nothing", 0) == []
