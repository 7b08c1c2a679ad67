"""Every test here has a network namespace of its own: nothing touches the machine's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devenv.network import manager
from devenv.util import paths
from tests.support import netlab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "integration/network" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason="needs root to make network namespaces"))


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with netlab.own_namespace():
        yield


@pytest.fixture
def where(tmp_path: Path) -> paths.Paths:
    found = paths.Paths(str(tmp_path / "data"), str(tmp_path / "run"))
    paths.prepare(found)
    return found


@pytest.fixture
def project(where: paths.Paths) -> Iterator[Callable[[str], manager.NetworkManager]]:
    made: list[manager.NetworkManager] = []

    def make(name: str) -> manager.NetworkManager:
        made.append(manager.NetworkManager(paths=where, project_id=f"{name}-00000000", project_name=name))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def container(where: paths.Paths) -> Iterator[Callable[[], netlab.Container]]:
    made: list[netlab.Container] = []

    def make() -> netlab.Container:
        made.append(netlab.Container(len(made) + 1))
        os.makedirs(where.container(made[-1].id))
        return made[-1]

    yield make
    for one in made:
        one.end()
