"""Archives that other programs write are read here, and the other way round, with every blob as it was."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from devenv.image import loading, saving
from devenv.image import store as image_store
from devenv.util import paths
from tests import ocilayout
from tests.ocilayout import file, folder, link

pytestmark = pytest.mark.root

LAYERS = [{"etc": folder(), "etc/motd": file("hello\n" * 1000), "bin": link("usr/bin")}, {"etc/more": "more"}]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


Podman = Callable[..., str]


@pytest.fixture
def podman(short_path: pathlib.Path) -> Podman:
    own = ["--root", f"{short_path}/s", "--runroot", f"{short_path}/r", "--storage-driver", "vfs"]
    return lambda *command: run(tool("podman"), *own, *command)


@pytest.fixture
def where(tmp_path: pathlib.Path) -> paths.Paths:
    found = paths.Paths(str(tmp_path / "d"), str(tmp_path / "r"))
    paths.prepare(found)
    return found


@pytest.fixture
def images(where: paths.Paths) -> Iterator[image_store.ImageStore]:
    with contextlib.closing(image_store.ImageStore(where)) as opened:
        yield opened


@pytest.fixture
def original(where: paths.Paths, tmp_path: pathlib.Path) -> loading.Loaded:
    """An image in the store, from ``layout``."""
    ocilayout.write_layout(tmp_path / "layout", layers=LAYERS, config={"Cmd": ["a"]}, ref="ghcr.io/x/y:1")
    [loaded] = loading.load(where, str(tmp_path / "layout"), what="x")
    return loaded


@pytest.fixture
def archive(where: paths.Paths, original: loading.Loaded, tmp_path: pathlib.Path) -> str:
    """That image, as it is saved."""
    with open(tmp_path / "saved.tar", "wb") as out:
        saving.write_archive(where, [saving.Wanted(original.target, original.tags)], out.write)
    return str(tmp_path / "saved.tar")


def blobs(folder: str | pathlib.Path) -> set[str]:
    return set(os.listdir(f"{folder}/blobs/sha256"))


def test_skopeo_reads_what_is_saved(archive: str, tmp_path: pathlib.Path) -> None:
    skopeo = tool("skopeo")
    run(skopeo, "copy", "--preserve-digests", f"oci-archive:{archive}:1", f"oci:{tmp_path}/out")
    assert blobs(tmp_path / "out") == blobs(tmp_path / "layout")
    shown = json.loads(run(skopeo, "inspect", "--config", f"docker-archive:{archive}:ghcr.io/x/y:1"))
    assert shown["config"]["Cmd"] == ["a"]


def test_umoci_unpacks_what_is_saved(where: paths.Paths, original: loading.Loaded, tmp_path: pathlib.Path) -> None:
    saving.write_layout(where, [saving.Wanted(original.target, original.tags)], str(tmp_path / "out"))
    run(tool("umoci"), "unpack", "--image", f"{tmp_path}/out:1", f"{tmp_path}/bundle")
    assert (tmp_path / "bundle/rootfs/etc/motd").read_text() == "hello\n" * 1000


def test_podman_loads_what_is_saved(
    images: image_store.ImageStore, original: loading.Loaded, archive: str, podman: Podman
) -> None:
    assert "ghcr.io/x/y:1" in podman("load", "-i", archive)
    [image] = json.loads(podman("image", "inspect", "ghcr.io/x/y:1"))
    found = images.resolve("ghcr.io/x/y:1", base="/")
    assert f"sha256:{image['Id']}" == found.digest


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_what_skopeo_and_podman_write_is_loaded(
    images: image_store.ImageStore,
    where: paths.Paths,
    original: loading.Loaded,
    tmp_path: pathlib.Path,
    podman: Podman,
    kind: str,
) -> None:
    expected = images.resolve("ghcr.io/x/y:1", base="/")
    name = "1" if kind == "oci-archive" else "ghcr.io/x/z:1"
    run(tool("skopeo"), "copy", f"oci:{tmp_path}/layout:ghcr.io/x/y:1", f"{kind}:{tmp_path}/skopeo.tar:{name}")
    podman("pull", f"oci:{tmp_path}/layout:ghcr.io/x/y:1")
    [image] = json.loads(podman("images", "--format", "json"))
    podman("tag", image["Id"], "ghcr.io/x/z:1")
    podman("save", "--format", kind, "-o", f"{tmp_path}/podman.tar", "ghcr.io/x/z:1")
    for archive in ("skopeo.tar", "podman.tar"):
        straight = images.resolve(f"{kind}:{archive}", base=str(tmp_path))
        assert straight.lower == expected.lower
        [loaded] = loading.load(where, str(tmp_path / archive), what="x")
        assert loaded.tags == (() if name == "1" and archive == "skopeo.tar" else ("ghcr.io/x/z:1",))
        if loaded.tags:
            assert images.resolve("ghcr.io/x/z:1", base="/").lower == expected.lower
