from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from devenv.util import tree
from tests.support import building


@pytest.fixture
def builder(short_path: pathlib.Path) -> Iterator[building.Builder]:
    yield building.Builder(short_path)
    for name in ("data", "run"):
        tree.remove(str(short_path / name))
