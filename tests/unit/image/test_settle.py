"""A power cut: what was not synced by then is unpacked again, what was is trusted."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from devenv.image import snapshot
from devenv.image import store as image_store
from devenv.util import paths
from tests import ocilayout
from tests.ocilayout import file

LAYERS = [{"a": file("a" * 1000, uid=os.geteuid(), gid=os.getegid())}]


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> str:
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS)
    return f"oci:{tmp_path}/l"


def reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "boot_id", lambda: "another")


def lose(image: image_store.Image) -> None:
    """As a filesystem does that had the names on the disk, and not yet the content."""
    os.truncate(f"{image.lower[0]}/a", 0)


def content(image: image_store.Image) -> str:
    return pathlib.Path(f"{image.lower[0]}/a").read_text()


def test_what_was_not_synced_is_unpacked_again(
    images: image_store.ImageStore, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as power:
        power.setattr(snapshot, "settle", lambda where, snapshots: None)
        image = images.resolve(layout, base="/")
    lose(image)
    assert images.resolve(layout, base="/") == image
    assert content(image) == ""
    reboot(monkeypatch)
    assert images.resolve(layout, base="/") == image
    assert content(image) == "a" * 1000


def test_what_was_synced_is_trusted(
    images: image_store.ImageStore, where: paths.Paths, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = images.resolve(layout, base="/")
    images.close()
    before = os.stat(f"{image.lower[0]}/a")
    assert "boot" not in json.loads(pathlib.Path(f"{image.lower[0]}/../layer.json").read_text())
    reboot(monkeypatch)
    assert images.resolve(layout, base="/") == image
    assert os.stat(f"{image.lower[0]}/a").st_ino == before.st_ino


def test_a_broken_record_is_mended(images: image_store.ImageStore, where: paths.Paths, layout: str) -> None:
    image = images.resolve(layout, base="/")
    images.close()
    pathlib.Path(f"{image.lower[0]}/../layer.json").write_text("{")
    lose(image)
    for name in os.listdir(f"{where.data}/images"):
        os.unlink(f"{where.data}/images/{name}")
    assert images.resolve(layout, base="/") == image
    assert content(image) == "a" * 1000
    assert os.listdir(f"{where.data}/trash") == []
