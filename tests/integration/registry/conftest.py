from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from devenv.image.registry import client, retry
from tests.support import fake_registry

QUICK = retry.Policy(attempts=4, first=0.005, longest=0.02)


@pytest.fixture
def registry() -> Iterator[fake_registry.Registry]:
    with fake_registry.running() as running:
        yield running


@pytest.fixture
def environ(tmp_path: pathlib.Path) -> dict[str, str]:
    """Of somebody with an empty home: no login, no configuration, no proxy."""
    home = tmp_path / "home"
    home.mkdir()
    return {"HOME": str(home), "PATH": "/usr/bin:/bin"}


@pytest.fixture
def talk(environ: dict[str, str]) -> Iterator[client.Client]:
    made = client.Client(environ, policy=QUICK)
    yield made
    made.close()
