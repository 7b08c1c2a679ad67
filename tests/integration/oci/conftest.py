"""A bundle for every test, and nothing of its containers afterwards."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.support import cgroups, oci


@pytest.fixture
def bundle(short_path: pathlib.Path, no_leaks: set[str]) -> Iterator[oci.Bundle]:
    made = oci.Bundle(short_path, no_leaks)
    yield made
    made.close()
    if (path := made.linux.get("cgroupsPath", "")).startswith("/"):
        cgroups.remove(path.split("/")[1])
