from __future__ import annotations

from typing import Any

import pytest

from devenv.spec import fronting

Fronting = fronting.Fronting


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, Fronting()),
        (True, Fronting()),
        ("true", Fronting()),
        (False, Fronting(shown=False)),
        ("false", Fronting(shown=False)),
        (8000, Fronting(port=8000)),
        ("8000", Fronting(port=8000)),
        ({"port": "8000"}, Fronting(port=8000)),
        ({"host": "API.v2"}, Fronting(host="api.v2")),
        ({"port": 1, "host": "a-b"}, Fronting(port=1, host="a-b")),
    ],
)
def test_forms(given: Any, expected: fronting.Fronting) -> None:
    assert fronting.parse(given) == expected


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (0, "port `0`"),
        ("web", "port `web`"),
        ({"port": 65536}, "port `65536`"),
        ({"host": "a_b"}, "is no host name"),
        ({"host": "-a"}, "is no host name"),
        ({"host": "a..b"}, "is no host name"),
        ({"host": "a/b"}, "is no host name"),
    ],
)
def test_what_is_wrong(given: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        fronting.parse(given)


def test_both_places() -> None:
    assert fronting.of({"x-devenv": {"proxy": 5}}) == Fronting(port=5)
    assert fronting.of({"proxy": 6, "x-devenv": {"proxy": 5}}) == Fronting(port=6)
    assert fronting.of({"proxy": False, "x-devenv": {"proxy": 5}}) == Fronting(shown=False)
    assert fronting.of({}) == Fronting()
