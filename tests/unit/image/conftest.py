from __future__ import annotations

import pathlib

import pytest

from devenv.image import store as image_store
from devenv.util import paths


@pytest.fixture
def where(tmp_path: pathlib.Path) -> paths.Paths:
    found = paths.Paths(str(tmp_path / "d"), str(tmp_path / "r"))
    paths.prepare(found)
    return found


@pytest.fixture
def images(where: paths.Paths) -> image_store.ImageStore:
    return image_store.ImageStore(where)
