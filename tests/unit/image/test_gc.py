"""Garbage collection takes what nothing needs, all of it, and never more."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from devenv import errors
from devenv.image import gc, lease, records, snapshot
from devenv.image import store as image_store
from devenv.util import paths
from tests import ocilayout
from tests.ocilayout import file
from tests.unit.image import stored

OWN = {"uid": os.geteuid(), "gid": os.getegid()}
BASE = {"base": file("b" * 1000, **OWN)}
NAME = "docker.io/library/x"


def there(where: paths.Paths, *folders: str) -> set[str]:
    found: set[str] = set()
    for folder in folders or ("blobs/sha256", "layers", "ingest", "trash", "stage", "leases"):
        if os.path.isdir(f"{where.data}/{folder}"):
            found |= set(os.listdir(f"{where.data}/{folder}"))
    return found


def test_an_empty_store(where: paths.Paths) -> None:
    assert gc.collect(where) == gc.Collected()


def test_what_is_shared_stays(images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    one = stored.put(images, where, tmp_path / "1", layers=[BASE, {"a": file("a", **OWN)}], tags=[f"{NAME}:1"])
    stored.put(images, where, tmp_path / "2", layers=[BASE, {"c": file("c", **OWN)}], tags=[f"{NAME}:2"])
    second = images.resolve("x:2", base="/")
    first = images.resolve("x:1", base="/")
    assert second.lower[1:] == first.lower[1:]
    images.close()
    assert gc.collect(where) == gc.Collected()
    images.index.remove(one.digest)
    found = gc.collect(where)
    assert (found.blobs, found.layers) == (3, 1)
    assert found.size > 0
    assert there(where, "blobs/sha256") == stored.blobs_of(tmp_path / "2")
    assert there(where, "layers") == set(records.chain_ids(second))
    assert there(where, "trash", "stage", "leases") == set()
    with pytest.raises(image_store.Missing, match="`x:1` is not here"):
        images.resolve("x:1", base="/")
    assert images.resolve("x:2", base="/") == second


def test_an_index_with_one_platform(images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    target = stored.put(images, where, tmp_path / "1", layers=[BASE], tags=[f"{NAME}:1"], index=True, Cmd=["a"])
    assert images.resolve("x:1", base="/").config.cmd == ("a",)
    assert images.resolve(f"x@{target.digest}", base="/").config.cmd == ("a",)
    assert gc.collect(where) == gc.Collected()
    assert there(where, "blobs/sha256") == stored.blobs_of(tmp_path / "1")


@pytest.mark.parametrize("remembered", [False, True])
def test_what_a_process_uses_stays_as_long_as_it_lives(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path, remembered: bool
) -> None:
    target = stored.put(images, where, tmp_path / "1", layers=[BASE], tags=[f"{NAME}:1"])
    if remembered:
        images.resolve("x:1", base="/")
        images.close()
    program = (
        "import sys; from devenv.image import store; from devenv.util import paths\n"
        "images = store.ImageStore(paths.Paths(sys.argv[1], sys.argv[1])); images.resolve('x:1', base='/')\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, where.data]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        images.index.remove(target.digest)
        assert gc.collect(where).layers == 0
        assert len(there(where, "layers")) == 1
        user.kill()
    assert gc.collect(where).layers == 1
    assert there(where) == set()


def test_what_containers_are_mounted_from_stays(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    target = stored.put(images, where, tmp_path / "1", layers=[BASE], tags=[f"{NAME}:1"])
    image = images.resolve("x:1", base="/")
    images.close()
    images.index.remove(target.digest)
    os.makedirs(f"{where.data}/containers/abc")
    config = json.dumps({"annotations": {"layout": json.dumps({"lower": image.lower})}})
    pathlib.Path(f"{where.data}/containers/abc/config.json").write_text(config)
    gc.collect(where)
    assert there(where, "layers") == set(records.chain_ids(image))
    os.unlink(f"{where.data}/containers/abc/config.json")
    gc.collect(where)
    assert there(where, "layers") == set()


def test_layers_of_a_layout_stay_while_it_is_there(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    ocilayout.write_layout(tmp_path / "l", layers=[BASE])
    image = images.resolve("oci:l", base=str(tmp_path))
    images.close()
    assert gc.collect(where) == gc.Collected()
    os.unlink(tmp_path / "l/index.json")
    assert gc.collect(where).layers == 1
    assert not os.path.exists(image.lower[0])
    assert there(where, "images") == set()


def test_transfers_that_broke_off(images: image_store.ImageStore, where: paths.Paths) -> None:
    wanted = stored.described({"mediaType": "x", "digest": "sha256:" + "1" * 64, "size": 10})
    with lease.Lease(where) as held:
        with images.blobs.ingest(wanted, held=held, what="x") as arriving:
            arriving.write(b"1234")
        gc.collect(where, given_up=-1)
        assert there(where, "ingest") == {wanted.hex}
    gc.collect(where)
    assert there(where, "ingest") == {wanted.hex}
    gc.collect(where, given_up=-1)
    assert there(where, "ingest") == set()


def test_a_collector_that_was_killed_is_followed_up(where: paths.Paths) -> None:
    os.makedirs(f"{where.data}/trash/{'1' * 64}.ab/fs/etc")
    gc.collect(where)
    assert there(where) == set()


def test_host_skeletons_that_are_out_of_date(where: paths.Paths, images: image_store.ImageStore) -> None:
    old = f"host-{'0' * 24}"
    os.makedirs(f"{where.data}/layers/{old}/fs")
    image = images.resolve("host:", base="/")
    images.close()
    assert gc.collect(where).layers == 1
    assert there(where, "layers") == set(records.chain_ids(image))


def test_broken_content_is_no_traceback(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    target = stored.put(images, where, tmp_path / "1", layers=[BASE], tags=[f"{NAME}:1"])
    config = stored.manifest_of(images, target)["config"]["digest"][7:]
    path = pathlib.Path(f"{where.data}/blobs/sha256/{config}")
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(errors.ImageError, match="has the digest"):
        images.resolve("x:1", base="/")
    gc.collect(where)
    assert there(where, "blobs/sha256") == stored.blobs_of(tmp_path / "1")


def test_an_image_is_prepared_from_blobs_once(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.put(images, where, tmp_path / "1", layers=[BASE], tags=[f"{NAME}:1"])
    stored.put(images, where, tmp_path / "2", layers=[{"a": "a"}], tags=[f"{NAME}:2"])
    first = images.resolve("x:1", base="/")
    monkeypatch.setattr(snapshot, "prepare", None)
    assert images.resolve("docker.io/x:1", base="/") == first.__class__(
        **{**{name: getattr(first, name) for name in first.__slots__}, "reference": "docker.io/x:1"}
    )
    monkeypatch.undo()
    images.index.put(images.index.images()[0].target, tags=[f"{NAME}:1"])
    assert images.resolve("x:1", base="/").digest == images.resolve("x:2", base="/").digest != first.digest


def test_remembered_images_need_no_database(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    stored.put(images, where, tmp_path / "1", layers=[BASE], tags=[f"{NAME}:1"])
    images.resolve("x:1", base="/")
    program = (
        "import sys; from devenv.image import store; from devenv.util import paths\n"
        "store.ImageStore(paths.Paths(sys.argv[1], sys.argv[1])).resolve('x:1', base='/')\n"
        "print('sqlite3' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program, where.data], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr
