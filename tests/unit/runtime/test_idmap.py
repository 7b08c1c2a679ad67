from __future__ import annotations

import itertools

import pytest

from devenv.runtime import idmap


def shown(rows: idmap.Mappings, disk: int) -> int | None:
    """What an id on disk is in the container; None for one that isn't mapped."""
    found = [each for each in rows if each["containerID"] <= disk < each["containerID"] + each["size"]]
    assert len(found) <= 1
    return found[0]["hostID"] + disk - found[0]["containerID"] if found else None


@pytest.mark.parametrize(
    ("outside", "inside"), [(1000, 0), (1000, 999), (1234567, 0), (0, 999), (65533, 0), (1000, 65533)]
)
def test_two_ids_meet_and_all_others_stay(outside: int, inside: int) -> None:
    rows = idmap.exchanged(outside, inside)
    assert shown(rows, outside) == inside
    assert shown(rows, inside) not in {outside, inside}
    stay = [each for each in (0, 1, 998, 999, 1000, 1001, 65532, 65533, 65534, 2**32 - 2) if shown(rows, each) == each]
    assert len(stay) >= 7
    # One to one: the kernel refuses what overlaps on either side.
    ranges = sorted((each["hostID"], each["hostID"] + each["size"]) for each in rows)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    assert sum(each["size"] for each in rows) == idmap.EVERY_ID


def test_the_same_on_both_sides_changes_nothing() -> None:
    assert idmap.exchanged(1000, 1000) == [{"containerID": 0, "hostID": 0, "size": idmap.EVERY_ID}]


def test_in_a_range_of_its_own() -> None:
    rows = idmap.exchanged(1000, 0, first=1 << 30, size=65536)
    assert shown(rows, 1000) == 1 << 30
    assert shown(rows, 65534) == (1 << 30) + 65534
    assert shown(rows, 65536) is None
    # A person of a directory service, whose number no range has.
    assert shown(idmap.exchanged(1234567, 0, first=1 << 30, size=65536), 1234567) == 1 << 30
