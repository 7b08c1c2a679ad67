"""Which images there are: known by all processes at once, and still known when the database is not."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys

import pytest

from devenv import errors
from devenv.image import descriptor, index, names, reference
from devenv.image import store as image_store
from devenv.util import paths
from tests.unit.image import stored

REDIS = "docker.io/library/redis"
ONE, TWO = (descriptor.Descriptor(descriptor.OCI_MANIFEST, "sha256:" + digit * 64, 100) for digit in "12")


@pytest.fixture
def catalog(where: paths.Paths) -> index.Index:
    return index.Index(where)


def tags(catalog: index.Index) -> dict[str, list[str]]:
    return {image.target.digest[7]: list(image.tags) for image in catalog.images()}


def find(catalog: index.Index, text: str) -> str | None:
    found = catalog.find(reference.parse(text))
    return found.target.digest[7] if found else None


def test_nothing_is_there(catalog: index.Index) -> None:
    assert catalog.images() == []
    assert find(catalog, "redis") is None


def test_tags_move(catalog: index.Index) -> None:
    catalog.put(ONE, tags=[f"{REDIS}:7", f"{REDIS}:latest"], repositories=[REDIS])
    assert (find(catalog, "redis"), find(catalog, "redis:7"), find(catalog, "redis:8")) == ("1", "1", None)
    catalog.put(TWO, tags=[f"{REDIS}:latest"], repositories=[REDIS])
    assert tags(catalog) == {"2": [f"{REDIS}:latest"], "1": [f"{REDIS}:7"]}
    assert find(catalog, f"redis@{ONE.digest}") == "1"
    assert find(catalog, f"redis:latest@{ONE.digest}") == "1"
    assert find(catalog, f"other@{ONE.digest}") is None
    catalog.put(ONE, tags=["registry.test/x:1"])
    assert tags(catalog)["1"] == [f"{REDIS}:7", "registry.test/x:1"]


def test_names_go(catalog: index.Index) -> None:
    catalog.put(ONE, tags=[f"{REDIS}:7", f"{REDIS}:8"])
    assert catalog.untag(f"{REDIS}:9") is None
    before = catalog.untag(f"{REDIS}:7")
    assert before is not None
    assert before.tags == (f"{REDIS}:7", f"{REDIS}:8")
    assert tags(catalog) == {"1": [f"{REDIS}:8"]}
    catalog.remove(ONE.digest)
    assert catalog.images() == []
    assert find(catalog, "redis:8") is None


def test_the_file_says_the_same(catalog: index.Index, where: paths.Paths) -> None:
    catalog.put(ONE, tags=[f"{REDIS}:7"], repositories=[REDIS])
    [entry] = json.loads(pathlib.Path(f"{where.data}/names.json").read_text())["images"]
    assert entry["tags"] == [f"{REDIS}:7"]
    assert entry["digest"] == ONE.digest


LOSSES = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"this is not a database" * 100),
    "cut": lambda path: os.truncate(path, 5000),
    "zeros in the middle": lambda path: path.write_bytes(path.read_bytes()[:2000] + b"\0" * 20_000),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_database_is_made_again(catalog: index.Index, where: paths.Paths, loss: str) -> None:
    catalog.put(ONE, tags=[f"{REDIS}:7"], repositories=[REDIS])
    before = catalog.images()
    for suffix in ("-wal", "-shm"):
        pathlib.Path(f"{where.data}/devenv.db{suffix}").unlink(missing_ok=True)
    LOSSES[loss](pathlib.Path(f"{where.data}/devenv.db"))
    assert catalog.images() == before
    catalog.put(TWO)
    assert tags(catalog) == {"2": [], "1": [f"{REDIS}:7"]}


def test_blobs_say_which_images_there_were(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    plain = stored.put(images, where, tmp_path / "1", layers=[{"a": "a"}], tags=[f"{REDIS}:7"])
    nested = stored.put(images, where, tmp_path / "2", layers=[{"b": "b"}], tags=[f"{REDIS}:8"], index=True)
    os.unlink(f"{where.data}/devenv.db")
    pathlib.Path(f"{where.data}/names.json").write_text('{"images": [{"digest": 5}]}')
    found = images.index.images()
    assert {image.target.digest: image.target.media_type for image in found} == {
        each.digest: each.media_type for each in (plain, nested)
    }
    assert {image.tags for image in found} == {()}


def test_a_change_that_fails_changes_nothing(catalog: index.Index, where: paths.Paths) -> None:
    catalog.put(ONE, tags=[f"{REDIS}:7"])
    os.unlink(f"{where.data}/names.json")
    os.mkdir(f"{where.data}/names.json")
    with pytest.raises(OSError, match="directory"):
        catalog.put(TWO, tags=[f"{REDIS}:7"])
    os.rmdir(f"{where.data}/names.json")
    assert tags(catalog) == {"1": [f"{REDIS}:7"]}


def test_a_newer_database_is_left_alone(catalog: index.Index, where: paths.Paths) -> None:
    catalog.put(ONE)
    database = sqlite3.connect(f"{where.data}/devenv.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(errors.ImageError, match="made by a newer devenv"):
        catalog.put(TWO)


MANY = """
import sys
from devenv.image import descriptor, index
from devenv.util import paths
catalog = index.Index(paths.Paths(sys.argv[1], sys.argv[1]))
for number in range(10):
    digest = f"sha256:{int(sys.argv[2]) * 100 + number:064x}"
    catalog.put(descriptor.Descriptor(descriptor.OCI_MANIFEST, digest, 1), tags=[f"r.test/x:{sys.argv[2]}-{number}"])
    assert len(catalog.images()) >= number
"""


def test_many_processes(catalog: index.Index, where: paths.Paths) -> None:
    command = [sys.executable, "-c", MANY, where.data]
    running = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [process.wait(100) for process in running] == [0] * 4
    assert sum(len(image.tags) for image in catalog.images()) == 40
    assert names.find(where) == catalog.images()


def test_a_copy_of_the_store_works(catalog: index.Index, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    catalog.put(ONE, tags=[f"{REDIS}:7"])
    shutil.copytree(where.data, tmp_path / "copy")
    assert tags(index.Index(paths.Paths(str(tmp_path / "copy"), where.run))) == {"1": [f"{REDIS}:7"]}


def test_a_pull_that_moves_no_name_leaves_prepared_images_current(where: paths.Paths) -> None:
    opened = index.Index(where)
    opened.put(ONE, tags=["docker.io/library/a:1"], repositories=["docker.io/library/a"])
    state, checked = os.stat(names.path(where)), opened.checked("docker.io/library/a:1")
    opened.put(ONE, tags=["docker.io/library/a:1"], repositories=["docker.io/library/a"])
    again = os.stat(names.path(where))
    assert (again.st_ino, again.st_mtime_ns) == (state.st_ino, state.st_mtime_ns)
    later = opened.checked("docker.io/library/a:1")
    assert checked is not None
    assert later is not None
    assert later > checked
    os.unlink(names.path(where))
    opened.put(ONE, tags=["docker.io/library/a:1"])
    assert os.path.exists(names.path(where))
