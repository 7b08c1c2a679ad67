from __future__ import annotations

import importlib.util

import pytest

from devenv import errors
from devenv.cli import extras


@pytest.mark.parametrize(
    ("prefix", "line"),
    [
        ("/home/me/.local/share/uv/tools/devenv-up", "uv tool install 'devenv-up[proxy]'"),
        ("/home/me/.local/share/pipx/venvs/devenv-up", "pipx inject devenv-up aiohttp cryptography"),
        ("/home/me/p/.venv", "/py -m pip install 'devenv-up[proxy]'"),
    ],
)
def test_without_the_libraries_the_line_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, prefix: str, line: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "aiohttp" else object())
    monkeypatch.setattr("sys.prefix", prefix)
    monkeypatch.setattr("sys.executable", "/py")
    with pytest.raises(errors.HostError, match="needs `aiohttp`") as raised:
        extras.need("proxy", "aiohttp", "cryptography", what="the proxy")
    assert raised.value.hint == line
