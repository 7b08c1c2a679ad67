"""`ports: auto` and `${DEVENV_PORT_…}`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from devenv import errors
from devenv.spec import autoports, loader

SERVICES = """
services:
  web-app:
    image: x
    ports: ["8080:80", "53:53/udp", "9000"]
  user:
    image: x
    environment: {URL: "http://localhost:${DEVENV_PORT_web_app_80}/"}
"""


def load(folder: Path, text: str, **environ: str) -> tuple[loader.Loaded, list[autoports.Wish]]:
    (folder / "devenv.yaml").write_text(text)
    asked: list[autoports.Wish] = []

    def allot(name: str, directory: str, wishes: Sequence[autoports.Wish]) -> dict[autoports.Wish, int]:
        asked.extend(wishes)
        return {wish: 20000 + wish.target for wish in wishes}

    return loader.load(loader.LoadOptions(cwd=str(folder), environ=environ, allot=allot)), asked


def ports(loaded: loader.Loaded, service: str) -> list[Any]:
    return [port.get("published") for port in loaded.canonical["services"][service]["ports"]]


def test_what_was_allotted_is_published_and_known_by_name(tmp_path: Path) -> None:
    loaded, asked = load(tmp_path, "ports: auto\n" + SERVICES)
    assert [(wish.service, wish.target, wish.protocol, wish.published) for wish in asked] == [
        ("web-app", 80, "tcp", 8080),
        ("web-app", 53, "udp", 53),
        ("web-app", 9000, "tcp", 0),
    ]
    assert ports(loaded, "web-app") == ["20080", "20053", "29000"]
    assert loaded.canonical["services"]["user"]["environment"] == {"URL": "http://localhost:20080/"}
    assert loaded.canonical["services"]["web-app"]["environment"] == {
        "DEVENV_PORT_web_app_80": "20080",
        "DEVENV_PORT_web_app_53_udp": "20053",
        "DEVENV_PORT_web_app_9000": "29000",
    }
    # The model agrees, and what came out otherwise than it was written is said.
    assert [port.published for port in loaded.project.services["web-app"].ports] == ["20080", "20053", "29000"]
    assert len(loaded.warnings) == 2
    assert "port 8080 is not free" in loaded.warnings[0]


@pytest.mark.parametrize("text", ["x-devenv: {ports: auto}\n" + SERVICES, SERVICES])
def test_where_it_may_be_said(tmp_path: Path, text: str) -> None:
    loaded, _ = load(tmp_path, text, DEVENV_PORTS="auto")
    assert ports(loaded, "web-app")[0] == "20080"


def test_strict_is_the_default_and_variables_stand_for_what_is_written(tmp_path: Path) -> None:
    for text in (SERVICES, "ports: strict\n" + SERVICES):
        loaded, asked = load(tmp_path, text, DEVENV_PORTS="auto" if text is not SERVICES else "")
        assert asked == []
        assert ports(loaded, "web-app")[:2] == ["8080", "53"]
        assert loaded.canonical["services"]["user"]["environment"] == {"URL": "http://localhost:8080/"}
        assert loaded.warnings == []


def test_what_chooses_for_itself_is_left_alone(tmp_path: Path) -> None:
    text = """
        ports: auto
        services:
          range: {image: x, ports: ["8000-8010:80"]}
          many: {image: x, ports: ["8080:80"], deploy: {replicas: 2}}
          host: {image: x, network_mode: host}
    """
    loaded, asked = load(tmp_path, text)
    assert asked == []
    assert ports(loaded, "range") == ["8000-8010"]


def test_anything_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.SpecError, match="strict"):
        load(tmp_path, "ports: automatic\nservices: {web: {image: x}}\n")
