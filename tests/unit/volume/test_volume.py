from __future__ import annotations

import fcntl
import os
import pathlib
import time

import pytest

from devenv import errors
from devenv.util import paths
from devenv.volume import volume


@pytest.fixture
def where(tmp_path: pathlib.Path) -> paths.Paths:
    return paths.Paths(str(tmp_path / "d"), str(tmp_path / "r"))


@pytest.fixture
def store(where: paths.Paths) -> volume.VolumeStore:
    return volume.VolumeStore(where, "shop-12345678")


def test_a_volume_is_made_once(store: volume.VolumeStore) -> None:
    made = store.ensure("data", labels={"a": "b"})
    pathlib.Path(made.path, "kept").write_text("x")
    again = store.ensure("data", labels={"a": "c"})
    assert again == made
    assert os.listdir(again.path) == ["kept"]
    assert made.path.endswith("/volumes/shop-12345678/data/_data")
    assert made.labels == {"a": "b"}


def test_list_and_remove(store: volume.VolumeStore, where: paths.Paths) -> None:
    for name in ("b", "a"):
        store.ensure(name)
    anonymous = store.ensure_anonymous()
    assert anonymous.anonymous
    assert len(anonymous.name) == 64
    assert [found.name for found in store.list()] == sorted(["a", "b", anonymous.name])
    assert store.remove("a")
    assert not store.remove("a")
    assert store.get("a") is None
    assert store.remove("b")
    assert store.remove(anonymous.name)
    assert store.list() == []
    assert not os.path.exists(where.volumes("shop-12345678"))


def test_projects_do_not_see_each_other(store: volume.VolumeStore, where: paths.Paths) -> None:
    other = volume.VolumeStore(where, "other-87654321")
    theirs = other.ensure("data")
    assert store.get("data") is None
    assert store.get_external("data") == theirs
    volume.VolumeStore(where, "third-00000000").ensure("data")
    with pytest.raises(errors.VolumeError, match=r"other-87654321, third-00000000"):
        store.get_external("data")
    mine = store.ensure("data")
    assert store.get_external("data") == mine
    assert store.get_external("nothing") is None


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "a\n", "ü", "a" * 201, "-x"])
def test_bad_names(store: volume.VolumeStore, name: str) -> None:
    with pytest.raises(errors.VolumeError, match="no name for a volume"):
        store.ensure(name)
    with pytest.raises(errors.VolumeError):
        store.remove(name)
    assert store.get(name) is None


def test_a_folder_of_the_machine_is_never_removed(store: volume.VolumeStore, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "file").write_text("x")
    options = {"type": "none", "o": "bind", "device": str(folder)}
    assert store.ensure("data", driver_opts=options).path == str(folder)
    assert store.remove("data")
    assert (folder / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("nfs", {}, "driver `nfs` is not built in"),
        ("local", {"type": "nfs", "o": "addr=1.2.3.4"}, "need a `device`"),
        ("local", {"type": "tmpfs", "o": "sice=1m", "device": "tmpfs"}, "no option `sice=1m`"),
        ("local", {"type": "none", "o": "bind", "device": "data"}, "not an absolute path"),
        ("local", {"type": "none", "o": "bind", "device": "/nowhere/at/all"}, "does not exist"),
        ("local", {"typ": "none"}, "has no `typ`"),
    ],
)
def test_bad_drivers(store: volume.VolumeStore, driver: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(errors.VolumeError, match=message) as caught:
        store.ensure("data", driver=driver, driver_opts=options)
    assert caught.value.hint


def test_other_options_do_not_replace_data(store: volume.VolumeStore, tmp_path: pathlib.Path) -> None:
    made = store.ensure("data")
    with pytest.raises(errors.VolumeError, match="made with other options: driver local"):
        store.ensure("data", driver_opts={"type": "none", "o": "bind", "device": str(tmp_path)})
    assert os.path.isdir(made.path)


def test_what_was_cut_short_is_finished(store: volume.VolumeStore, where: paths.Paths) -> None:
    store.ensure("data")
    folder = where.volumes("shop-12345678")
    os.makedirs(f"{folder}/.old-x-00000000/_data")
    os.makedirs(f"{folder}/.new-x-00000000")
    os.makedirs(f"{folder}/.new-y-00000000")
    os.utime(f"{folder}/.new-x-00000000", (time.time() - 100,) * 2)
    os.makedirs(f"{folder}/.new-z-00000000")
    os.utime(f"{folder}/.new-z-00000000", (time.time() - 100,) * 2)
    assert [found.name for found in store.list()] == ["data"]
    filling = os.open(f"{folder}/.new-z-00000000", os.O_RDONLY)
    fcntl.flock(filling, fcntl.LOCK_SH)
    store.sweep()
    assert sorted(os.listdir(folder)) == [".new-y-00000000", ".new-z-00000000", "data"]
    os.close(filling)
    store.sweep()
    assert sorted(os.listdir(folder)) == [".new-y-00000000", "data"]


def test_a_broken_record_is_said(store: volume.VolumeStore, where: paths.Paths) -> None:
    made = store.ensure("data")
    pathlib.Path(f"{where.volumes('shop-12345678')}/data/volume.json").write_text("{")
    assert store.list() == []
    with pytest.raises(errors.VolumeError, match="is broken"):
        store.ensure("data")
    assert os.path.isdir(made.path)
