"""Whatever is done to the files of a store: an error that names the image, or the right content; never a traceback."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import pytest

from devenv import errors
from devenv.image import gc
from devenv.image import store as image_store
from devenv.util import paths
from tests.ocilayout import file
from tests.unit.image import stored

OWN = {"uid": os.geteuid(), "gid": os.getegid()}
NAME = "docker.io/library/x:1"


def flip(path: pathlib.Path) -> None:
    data = path.read_bytes() or b"\0"
    path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x55]) + data[len(data) // 2 + 1 :])


HARMS: dict[str, Callable[[pathlib.Path], None]] = {
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte": flip,
    "an object": lambda path: path.write_bytes(b"{}") and None,
    "a list": lambda path: path.write_bytes(b"[]") and None,
    "text": lambda path: path.write_bytes(b"\xff" * 100) and None,
}


def store_files(data: str) -> Iterator[pathlib.Path]:
    """All but the content of layers, which nobody can tell from what a layer should be."""
    for path in sorted(pathlib.Path(data).rglob("*")):
        if path.is_file() and "fs" not in path.parts:
            yield path


@pytest.mark.parametrize("harm", HARMS)
def test_every_file_in_turn(where: paths.Paths, tmp_path: pathlib.Path, harm: str) -> None:
    images = image_store.ImageStore(where)
    stored.put(images, where, tmp_path / "1", layers=[{"a": file("a", **OWN)}], tags=[NAME], index=True)
    images.resolve("x:1", base="/")
    images.close()
    shutil.move(where.data, tmp_path / "good")
    names = [path.relative_to(tmp_path / "good") for path in store_files(f"{tmp_path}/good")]
    assert len(names) >= 9
    for name in names:
        shutil.copytree(tmp_path / "good", where.data)
        HARMS[harm](pathlib.Path(where.data, name))
        images = image_store.ImageStore(where)
        # Where it is remembered, and where it has to be prepared.
        for _ in range(2):
            try:
                found = images.resolve("x:1", base="/")
            except errors.ImageError as exc:
                said = str(exc)
            else:
                said = "x:1"
                assert pathlib.Path(f"{found.lower[0]}/a").read_text() == "a"
            assert "x:1" in said or "sha256:" in said, (name, said)
            images.index.images()
            shutil.rmtree(f"{where.data}/images", ignore_errors=True)
        images.close()
        gc.collect(where)
        shutil.rmtree(where.data)


def test_pulling_again_repairs(images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    """A blob of another size is not there; one of the right size with wrong content is found out when it is used."""
    target = stored.put(images, where, tmp_path / "1", layers=[{"a": file("a" * 1000, **OWN)}], tags=[NAME])
    layer = stored.described(stored.manifest_of(images, target)["layers"][0])
    os.truncate(images.blobs.path(layer), 10)
    assert not images.blobs.has(layer)
    stored.put(images, where, tmp_path / "1", layers=[{"a": file("a" * 1000, **OWN)}], tags=[NAME])
    assert images.blobs.has(layer)
    flip(pathlib.Path(images.blobs.path(layer)))
    with pytest.raises(errors.ImageError, match="image `x:1`: layer"):
        images.resolve("x:1", base="/")
    assert images.blobs.verify() == [layer.digest]
    assert images.blobs.verify() == []
    stored.put(images, where, tmp_path / "1", layers=[{"a": file("a" * 1000, **OWN)}], tags=[NAME])
    assert os.listdir(images.resolve("x:1", base="/").lower[0]) == ["a"]
