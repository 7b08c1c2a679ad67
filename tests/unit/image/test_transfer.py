"""Images out of a store and into another: every blob byte by byte, every name, and nothing of what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pathlib
import tarfile

import pytest

from devenv import errors
from devenv.image import descriptor, ingest, loading, saving
from devenv.image import store as image_store
from devenv.util import paths
from tests import ocilayout
from tests.ocilayout import file
from tests.unit.image import stored

OWN = {"uid": os.geteuid(), "gid": os.getegid()}
BASE = {"base": file("b" * 100_000, **OWN)}
NAME = "docker.io/library/x"
WHAT = "`file`"


@pytest.fixture
def other(tmp_path: pathlib.Path) -> paths.Paths:
    found = paths.Paths(str(tmp_path / "other"), str(tmp_path / "r"))
    paths.prepare(found)
    return found


def blobs_in(where: paths.Paths) -> dict[str, bytes]:
    folder = pathlib.Path(f"{where.data}/blobs/sha256")
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def saved(where: paths.Paths, *wanted: saving.Wanted) -> bytes:
    out = io.BytesIO()
    saving.write_archive(where, wanted, out.write)
    return out.getvalue()


def test_there_and_back(
    images: image_store.ImageStore, where: paths.Paths, other: paths.Paths, tmp_path: pathlib.Path
) -> None:
    one = stored.put(images, where, tmp_path / "1", layers=[BASE, {"a": "a"}], tags=[f"{NAME}:1"])
    two = stored.put(images, where, tmp_path / "2", layers=[BASE], tags=["ghcr.io/y/z:2"], index=True)
    wanted = [saving.Wanted(one, [f"{NAME}:1", f"{NAME}:one"]), saving.Wanted(two, ["ghcr.io/y/z:2"])]
    archive = saved(where, *wanted)
    (tmp_path / "a.tar").write_bytes(archive)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(archive))
    saving.write_layout(where, wanted, str(tmp_path / "layout"))
    for name in ("a.tar", "a.tar.gz", "layout"):
        found = loading.load(other, str(tmp_path / name), what=WHAT)
        assert [(each.target.digest, each.tags) for each in found] == [
            (one.digest, (f"{NAME}:1", f"{NAME}:one")),
            (two.digest, ("ghcr.io/y/z:2",)),
        ]
        assert blobs_in(other) == blobs_in(where)
    assert saved(other, *wanted) == archive
    theirs = image_store.ImageStore(other)
    assert theirs.resolve("x:one", base="/").digest == images.resolve("x:1", base="/").digest
    assert theirs.resolve("ghcr.io/y/z:2", base="/").config == images.resolve("ghcr.io/y/z:2", base="/").config
    assert os.listdir(f"{other.data}/stage") == os.listdir(f"{other.data}/ingest") == []


def test_a_saved_archive_is_both_kinds(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    one = stored.put(images, where, tmp_path / "1", layers=[BASE], tags=[f"{NAME}:1"])
    two = stored.put(images, where, tmp_path / "2", layers=[BASE, {"a": "a"}], tags=[f"{NAME}:2"])
    archive = saved(where, saving.Wanted(one, [f"{NAME}:1"]), saving.Wanted(two, [f"{NAME}:2"]))
    (tmp_path / "a.tar").write_bytes(archive)
    expected = images.resolve("x:2", base="/")
    for text in (
        "docker-archive:a.tar:x:2",
        "oci-archive:a.tar:2",
        "oci-archive:a.tar:x:2",
        f"oci-archive:a.tar@{two.digest}",
    ):
        found = images.resolve(text, base=str(tmp_path))
        assert (found.digest, found.lower) == (expected.digest, expected.lower)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert opened.getnames() == sorted(opened.getnames())
        assert {(each.mtime, each.uid, each.gid) for each in opened} == {(0, 0, 0)}


def test_tags_that_move_are_said(images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    one = stored.put(images, where, tmp_path / "1", layers=[BASE], tags=[f"{NAME}:1"])
    (tmp_path / "a.tar").write_bytes(saved(where, saving.Wanted(one, [f"{NAME}:1"])))
    stored.put(images, where, tmp_path / "2", layers=[{"a": "a"}], tags=[f"{NAME}:1"])
    [found] = loading.load(where, str(tmp_path / "a.tar"), what=WHAT)
    assert list(found.moved) == [f"{NAME}:1"]
    [found] = loading.load(where, str(tmp_path / "a.tar"), what=WHAT)
    assert found.moved == {}


def test_old_docker_archives(images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path) -> None:
    ocilayout.docker_archive(tmp_path / "a.tar", layers=[BASE, {"a": "a"}], tags=["x:1", "ghcr.io/y:2"], Cmd=["a"])
    first = loading.load(where, str(tmp_path / "a.tar"), what=WHAT)
    [loaded] = first
    assert loaded.tags == (f"{NAME}:1", "ghcr.io/y:2")
    assert loading.load(where, str(tmp_path / "a.tar"), what=WHAT)[0].target == loaded.target
    found = images.resolve("x:1", base="/")
    assert found.config.cmd == ("a",)
    straight = images.resolve("docker-archive:a.tar", base=str(tmp_path))
    assert (found.digest, found.lower) == (straight.digest, straight.lower)
    assert stored.manifest_of(images, loaded.target)["layers"][0]["mediaType"] == descriptor.OCI_LAYER


def docker_archive_of(path: pathlib.Path, **files: bytes | object) -> None:
    entries = {
        name: file(data if isinstance(data, bytes) else json.dumps(data).encode()) for name, data in files.items()
    }
    path.write_bytes(ocilayout.tar(entries))


def test_a_docker_archive_with_compressed_layers(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    stream = ocilayout.tar(BASE)
    docker_archive_of(
        tmp_path / "a.tar",
        layer=gzip.compress(stream),
        config={"rootfs": {"diff_ids": [ocilayout.digest(stream)]}},
        **{"manifest.json": [{"Config": "config", "Layers": ["layer"], "RepoTags": ["x:1"]}]},
    )
    [loaded] = loading.load(where, str(tmp_path / "a.tar"), what=WHAT)
    [layer] = stored.manifest_of(images, loaded.target)["layers"]
    assert layer["mediaType"] == descriptor.OCI_LAYER + "+gzip"
    assert os.listdir(images.resolve("x:1", base="/").lower[0]) == ["base"]


def test_a_layer_that_is_not_what_the_config_says(where: paths.Paths, tmp_path: pathlib.Path) -> None:
    docker_archive_of(
        tmp_path / "a.tar",
        layer=ocilayout.tar(BASE),
        config={"rootfs": {"diff_ids": ["sha256:" + "0" * 64]}},
        **{"manifest.json": [{"Config": "config", "Layers": ["layer"], "RepoTags": ["x:1"]}]},
    )
    with pytest.raises(ingest.Mismatch, match="what arrived has the digest"):
        loading.load(where, str(tmp_path / "a.tar"), what=WHAT)
    assert blobs_in(where) == {}


GOOD = {"rootfs": {"diff_ids": []}}
BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "empty": ({}, "not an OCI image layout"),
    "no list": ({"manifest.json": {}}, "is not a list"),
    "no objects": ({"manifest.json": [1]}, "is not a list"),
    "not json": ({"manifest.json": b"["}, "is not JSON"),
    "large": ({"manifest.json": b" " * (5 << 20)}, "larger than"),
    "no config": ({"manifest.json": [{}]}, "is broken"),
    "config not there": ({"manifest.json": [{"Config": "../../etc/passwd"}]}, "is not in the archive"),
    "config absolute": ({"manifest.json": [{"Config": "/etc/passwd"}]}, "is not in the archive"),
    "config broken": ({"manifest.json": [{"Config": "c"}], "c": b"x"}, "is not JSON"),
    "layer not there": ({"manifest.json": [{"Config": "c", "Layers": ["l"]}], "c": GOOD}, "is not in the archive"),
    "layer no name": ({"manifest.json": [{"Config": "c", "Layers": [None]}], "c": GOOD}, "is not in the archive"),
    "layers no list": ({"manifest.json": [{"Config": "c", "Layers": "c"}], "c": GOOD}, "is broken"),
    "layer too many": (
        {"manifest.json": [{"Config": "c", "Layers": ["l"]}], "c": GOOD, "l": b""},
        "has 1 layers, its config 0",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path, name: str) -> None:
    given, message = BROKEN[name]
    docker_archive_of(tmp_path / "a.tar", **given)
    with pytest.raises(errors.ImageError, match=message):
        loading.load(where, str(tmp_path / "a.tar"), what=WHAT)
    with pytest.raises(errors.ImageError, match=message):
        images.resolve("docker-archive:a.tar", base=str(tmp_path))
    assert images.index.images() == []
    assert os.listdir(f"{where.data}/stage") == []


def test_links_in_archives_lead_nowhere_but_to_its_files(
    images: image_store.ImageStore, tmp_path: pathlib.Path
) -> None:
    """Older Docker links a layer that two images share; a link to elsewhere is no file of the archive."""
    ocilayout.docker_archive(tmp_path / "a.tar", layers=[BASE], tags=["x:1"])
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for name, target in (("1/layer.tar", "../0/layer.tar"), ("2/layer.tar", "/etc/passwd"), ("3", "3")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    with tarfile.open(tmp_path / "a.tar") as archive:
        original = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    for layer, outcome in (("1/layer.tar", None), ("2/layer.tar", "is not in the archive"), ("3", "is not in")):
        data = json.dumps([{**original[0], "Layers": [layer]}]).encode()
        with tarfile.open(tmp_path / "a.tar", "a") as archive:
            entry = tarfile.TarInfo("manifest.json")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        if outcome is None:
            assert images.resolve("docker-archive:a.tar", base=str(tmp_path)).lower
        else:
            with pytest.raises(errors.ImageError, match=outcome):
                images.resolve("docker-archive:a.tar", base=str(tmp_path))


def test_a_layout_that_lies(where: paths.Paths, tmp_path: pathlib.Path) -> None:
    writer = ocilayout.Writer(tmp_path / "l")
    entry = writer.image([BASE])
    writer.index([entry])
    manifest = json.loads((writer.path / "blobs/sha256" / entry["digest"][7:]).read_text())
    layer = writer.path / "blobs/sha256" / manifest["layers"][0]["digest"][7:]
    good = layer.read_bytes()
    for bad, message in ((good + b"x", "it has more than"), (good[:-1], "it ends after"), (b"x" * len(good), "digest")):
        layer.write_bytes(bad)
        with pytest.raises(errors.ImageError, match=message):
            loading.load(where, str(writer.path), what=WHAT)
        assert image_store.ImageStore(where).index.images() == []
    layer.write_bytes(good)
    [loaded] = loading.load(where, str(writer.path), what=WHAT)
    assert (loaded.target.digest, loaded.tags) == (entry["digest"], ())


def test_what_is_no_image_is_not_loaded(where: paths.Paths, tmp_path: pathlib.Path) -> None:
    writer = ocilayout.Writer(tmp_path / "l")
    chart = {
        "schemaVersion": 2,
        "config": writer.json({}, "application/vnd.cncf.helm.config.v1+json"),
        "layers": [writer.blob(b"x", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
    }
    writer.index([writer.json(chart, descriptor.OCI_MANIFEST)])
    with pytest.raises(errors.ImageError, match="is not a container image"):
        loading.load(where, str(writer.path), what=WHAT)


def test_attestations_travel_with_their_image(
    images: image_store.ImageStore, where: paths.Paths, other: paths.Paths, tmp_path: pathlib.Path
) -> None:
    """What buildx puts beside an image: a manifest whose layers are statements about it."""
    writer = ocilayout.Writer(tmp_path / "l")
    image = {**writer.image([BASE]), "platform": {"os": "linux", "architecture": ocilayout.architecture()}}
    statement = {
        "schemaVersion": 2,
        "mediaType": descriptor.OCI_MANIFEST,
        "config": writer.json({"rootfs": {"diff_ids": []}}, descriptor.OCI_CONFIG),
        "layers": [writer.blob(b'{"is": "good"}', "application/vnd.in-toto+json")],
    }
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}}
    attestation = writer.json(statement, descriptor.OCI_MANIFEST, **unknown)
    inner = {"schemaVersion": 2, "mediaType": descriptor.OCI_INDEX, "manifests": [image, attestation]}
    writer.index([writer.json(inner, descriptor.OCI_INDEX, annotations={descriptor.NAME_ANNOTATION: "x:1"})])
    [loaded] = loading.load(where, str(writer.path), what=WHAT)
    (tmp_path / "a.tar").write_bytes(saved(where, saving.Wanted(loaded.target, loaded.tags)))
    [again] = loading.load(other, str(tmp_path / "a.tar"), what=WHAT)
    assert again.target == loaded.target
    assert set(blobs_in(other)) == stored.blobs_of(writer.path) == set(blobs_in(where))
    assert hashlib.sha256(b'{"is": "good"}').hexdigest() in blobs_in(other)


def test_an_image_with_a_blob_missing_is_not_saved(
    images: image_store.ImageStore, where: paths.Paths, tmp_path: pathlib.Path
) -> None:
    one = stored.put(images, where, tmp_path / "1", layers=[BASE])
    layer = stored.manifest_of(images, one)["layers"][0]["digest"]
    os.unlink(f"{where.data}/blobs/sha256/{layer[7:]}")
    with pytest.raises(errors.ImageError, match=f"its blob {layer} is missing"):
        saved(where, saving.Wanted(one))
