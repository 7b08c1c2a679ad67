from __future__ import annotations

import pathlib

import pytest


@pytest.fixture(autouse=True)
def own_trees(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of a test looks at, or writes to, the trees of whoever runs the tests."""
    monkeypatch.setenv("DEVENV_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DEVENV_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_PROGRESS", "COMPOSE_ANSI"):
        monkeypatch.delenv(name, raising=False)
