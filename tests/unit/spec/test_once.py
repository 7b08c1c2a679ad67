"""`once:`, in its forms."""

from __future__ import annotations

from typing import Any

import pytest

from devenv.spec import once


@pytest.mark.parametrize(
    ("service", "found"),
    [
        ({}, None),
        ({"once": True}, once.Once(True)),
        ({"once": False}, once.Once(False)),
        ({"x-devenv": {"once": {"inputs": ["migrations/**"]}}}, once.Once(True, ("migrations/**",))),
    ],
)
def test_forms(service: dict[str, Any], found: once.Once | None) -> None:
    assert once.of(service) == found


@pytest.mark.parametrize("given", [{}, {"inputs": "a"}, {"inputs": [""]}, {"inputs": ["/etc/*"]}, {"inputs": ["../x"]}])
def test_what_makes_no_sense(given: Any) -> None:
    with pytest.raises(ValueError, match="once"):
        once.parse(given)
