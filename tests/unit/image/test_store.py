from __future__ import annotations

import os
import pathlib
import threading

import pytest

from devenv import errors
from devenv.image import snapshot, store
from devenv.util import paths
from tests import ocilayout
from tests.ocilayout import file, folder

OWN = {"uid": os.geteuid(), "gid": os.getegid()}
LAYERS = [{"etc": folder(**OWN), "etc/a": file("a", **OWN)}, {"etc/b": file("b", **OWN)}]


def stage(where: paths.Paths) -> list[str]:
    return os.listdir(f"{where.data}/stage") if os.path.isdir(f"{where.data}/stage") else []


def test_a_layout(images: store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS, config={"Cmd": ["a"]})
    found = images.resolve("oci:l", base=str(tmp_path))
    assert found == images.resolve(f"oci:{tmp_path}/l", base="/").__class__(
        **{**{name: getattr(found, name) for name in found.__slots__}, "reference": "oci:l"}
    )
    assert found.config.cmd == ("a",)
    assert [sorted(os.listdir(f"{lower}/etc")) for lower in found.lower] == [["b"], ["a"]]
    assert stage(where) == []
    assert images.resolve("oci:l", base=str(tmp_path)) == found


def test_a_changed_layout_is_seen(images: store.ImageStore, tmp_path: pathlib.Path) -> None:
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS[:1])
    first = images.resolve("oci:l", base=str(tmp_path))
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS)
    second = images.resolve("oci:l", base=str(tmp_path))
    assert second.digest != first.digest
    assert second.lower[1:] == first.lower  # the layer they share is stored once


def test_a_removed_layer_is_unpacked_again(
    images: store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS)
    found = images.resolve("oci:l", base=str(tmp_path))
    os.rename(os.path.dirname(found.lower[0]), tmp_path / "gone")
    assert images.resolve("oci:l", base=str(tmp_path)) == found
    assert os.path.isdir(found.lower[0])


def test_empty_layers_are_not_mounted(images: store.ImageStore, tmp_path: pathlib.Path) -> None:
    ocilayout.write_layout(tmp_path / "l", layers=[{}, LAYERS[0], {}, {}])
    assert len(images.resolve("oci:l", base=str(tmp_path)).lower) == 1
    ocilayout.write_layout(tmp_path / "e", layers=[{}, {}])
    assert len(images.resolve("oci:e", base=str(tmp_path)).lower) == 1


def test_one_layer_twice_is_two_folders(images: store.ImageStore, tmp_path: pathlib.Path) -> None:
    """overlayfs refuses a folder that is there twice (ELOOP)."""
    ocilayout.write_layout(tmp_path / "l", layers=[LAYERS[0], LAYERS[0]])
    lower = images.resolve("oci:l", base=str(tmp_path)).lower
    assert len(set(lower)) == len(lower) == 2


def test_a_refused_layer_leaves_nothing(images: store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    ocilayout.write_layout(tmp_path / "l", layers=[{"a": "x", "../b": "y"}])
    with pytest.raises(errors.ImageError, match=r"image `oci:l`: layer sha256:\w+ is refused: `../b`: it leads out"):
        images.resolve("oci:l", base=str(tmp_path))
    assert stage(where) == []
    assert os.listdir(f"{where.data}/layers") == []


def test_a_damaged_layer(images: store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS, compress="none")
    for path in (tmp_path / "l/blobs/sha256").iterdir():
        if b"ustar" in path.read_bytes():
            path.write_bytes(path.read_bytes().replace(b"etc/b", b"etc/c").replace(b"etc/a", b"etc/d"))
    with pytest.raises(errors.ImageError, match=r"checksum|has the digest") as caught:
        images.resolve("oci:l", base=str(tmp_path))
    assert os.listdir(f"{where.data}/layers") == []
    assert caught.value.code == "image"


def test_what_was_killed_is_swept(images: store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    os.makedirs(f"{where.data}/stage/{'a' * 64}/fs/x")
    open(f"{where.data}/stage/{'a' * 64}.lock", "w").close()
    os.makedirs(f"{where.data}/stage/archive-0123/blobs")
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS)
    images.resolve("oci:l", base=str(tmp_path))
    ocilayout.docker_archive(tmp_path / "a.tar", layers=LAYERS, tags=["x:1"])
    images.resolve("docker-archive:a.tar", base=str(tmp_path))
    assert stage(where) == []


def test_many_at_once(images: store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    layers = [{f"{layer}-{number}": file("x" * 100, **OWN) for number in range(300)} for layer in range(4)]
    ocilayout.write_layout(tmp_path / "l", layers=layers)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(store.ImageStore(where).resolve("oci:l", base=str(tmp_path))))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(image == found[0] for image in found)
    assert stage(where) == []


def test_docker_archives(images: store.ImageStore, tmp_path: pathlib.Path) -> None:
    ocilayout.docker_archive(tmp_path / "a.tar", layers=LAYERS, tags=["x:1", "ghcr.io/y:2"], Cmd=["a"])
    for text in ("docker-archive:a.tar", "docker-archive:a.tar:x:1", "docker-archive:a.tar:ghcr.io/y:2"):
        found = images.resolve(text, base=str(tmp_path))
        assert found.config.cmd == ("a",)
        assert len(found.lower) == 2
    with pytest.raises(errors.ImageError, match="`z` is not in it") as caught:
        images.resolve("docker-archive:a.tar:z", base=str(tmp_path))
    assert caught.value.hint == "it has `ghcr.io/y:2`, `x:1`"


def test_oci_archives(images: store.ImageStore, tmp_path: pathlib.Path) -> None:
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS, config={"Cmd": ["a"]})
    names = [path for path in (tmp_path / "l").rglob("*") if path.is_file()]
    entries = {f"./{path.relative_to(tmp_path / 'l')}": file(path.read_bytes()) for path in names}
    (tmp_path / "a.tar").write_bytes(ocilayout.tar(entries))
    found = images.resolve("oci-archive:a.tar", base=str(tmp_path))
    assert found.digest == images.resolve("oci:l", base=str(tmp_path)).digest
    assert images.resolve("oci-archive:a.tar:latest", base=str(tmp_path)).lower == found.lower


def test_root_filesystems(images: store.ImageStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fs/bin").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = images.resolve("rootfs:fs", base=str(tmp_path))
    assert found.lower == (os.path.realpath(tmp_path / "fs"),)
    assert found.digest == images.resolve("rootfs:~/fs", base="/").digest
    assert found.config.cmd == ("/bin/sh",)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "redis",
            "is not here",
            "devenv image pull redis:latest",
        ),
        ("rootfs:nothing", "does not exist", "relative to the project's folder"),
        ("rootfs:file", "is not a folder", None),
        ("rootfs:a.tar.gz", "is not a folder", "tar -xf"),
        ("rootfs:empty", "is empty", None),
        ("rootfs:/", "users' files", "`host:`"),
        ("rootfs:l", "is an OCI image layout", "`oci:l`"),
        ("rootfs:~nobody-such/x", "there is no user", None),
        ("oci:nothing", "does not exist", "relative"),
        ("oci:file", "is not a folder", "oci-archive:file"),
        ("oci:empty", "not an OCI image layout", "skopeo copy"),
        ("oci-archive:l", "is a folder", "`oci:l`"),
        ("oci-archive:file", "is no archive of an image", None),
        ("docker-archive:a.tar.gz", "not an OCI image layout", None),
        ("oci:none", "has no layers", None),
    ],
)
def test_what_is_said(
    images: store.ImageStore, tmp_path: pathlib.Path, text: str, message: str, hint: str | None
) -> None:
    (tmp_path / "file").write_text("x" * 600)
    (tmp_path / "a.tar.gz").write_bytes(b"\0" * 1024)
    (tmp_path / "empty").mkdir()
    ocilayout.write_layout(tmp_path / "l", layers=LAYERS)
    ocilayout.write_layout(tmp_path / "none", layers=[])
    with pytest.raises(errors.ImageError) as caught:
        images.resolve(text, base=str(tmp_path))
    assert message in str(caught.value)
    if hint is not None:
        assert hint in str(caught.value.hint)


def test_chain_ids() -> None:
    """The example values are those of the image specification's rule, worked out with sha256sum."""
    first, second = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    assert snapshot.chain([first]) == ["a" * 64]
    assert snapshot.chain([first, second])[1] == ocilayout.digest(f"{first} {second}".encode())[7:]
