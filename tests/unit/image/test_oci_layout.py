from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from devenv import errors
from devenv.image import content, descriptor, files, oci_layout
from tests import ocilayout

NAME = "org.opencontainers.image.ref.name"
FULL = "io.containerd.image.name"
LAYER = {"etc/motd": "hello\n"}


@pytest.fixture
def writer(tmp_path: pathlib.Path) -> ocilayout.Writer:
    return ocilayout.Writer(tmp_path / "layout")


def find(writer: ocilayout.Writer, **wanted: str) -> content.Content:
    return oci_layout.Layout(files.Folder(str(writer.path)), what="image `x`").find(**wanted)


def named(name: str) -> dict[str, Any]:
    return {"annotations": {NAME: name}}


def test_the_only_image(writer: ocilayout.Writer) -> None:
    writer.index([writer.image([LAYER], {"Cmd": ["a"]}, **named("v1"))])
    found = find(writer)
    assert found.config.cmd == ("a",)
    assert len(found.layers) == 1
    assert found.layers[0].diff_id == ocilayout.digest(ocilayout.tar(LAYER))
    assert find(writer, name="v1") == found


def test_images_by_name_and_digest(writer: ocilayout.Writer) -> None:
    both = [writer.image([LAYER], {"Cmd": [name]}, **named(name)) for name in ("a", "b")]
    full = writer.image([LAYER], {"Cmd": ["full"]}, annotations={NAME: "7", FULL: "docker.io/library/x:7"})
    writer.index([*both, full])
    assert find(writer, name="b").config.cmd == ("b",)
    assert find(writer, name="7").config.cmd == ("full",)
    assert find(writer, name="docker.io/library/x:7").config.cmd == ("full",)
    assert find(writer, digest=both[0]["digest"]).config.cmd == ("a",)
    with pytest.raises(errors.ImageError, match="holds several images") as caught:
        find(writer)
    assert caught.value.hint == "it has `a`, `b`, `docker.io/library/x:7`"
    with pytest.raises(errors.ImageError, match="`c` is not in"):
        find(writer, name="c")
    writer.index([*both, writer.image([LAYER], {"Cmd": ["latest"]}, **named("latest"))])
    assert find(writer).config.cmd == ("latest",)


def platform(architecture: str, variant: str = "") -> dict[str, Any]:
    return {"platform": {"os": "linux", "architecture": architecture, "variant": variant}}


def test_a_nested_index_by_platform(writer: ocilayout.Writer) -> None:
    mine = writer.image([LAYER], {"Cmd": ["mine"]}, **platform(ocilayout.architecture()))
    other = writer.image([LAYER], {"Cmd": ["other"]}, arch="mips", **platform("mips"))
    attestation = writer.image([], **platform("unknown"))
    inner = {"schemaVersion": 2, "mediaType": descriptor.OCI_INDEX, "manifests": [attestation, other, mine]}
    writer.index([writer.json(inner, descriptor.OCI_INDEX, **named("latest"))])
    assert find(writer, name="latest").config.cmd == ("mine",)
    writer.index([writer.json({**inner, "manifests": [other]}, descriptor.OCI_INDEX)])
    with pytest.raises(errors.ImageError, match="no image for linux/") as caught:
        find(writer)
    assert caught.value.hint == "it has linux/mips"


def test_another_platforms_image_alone_is_taken_and_said(writer: ocilayout.Writer) -> None:
    writer.index([writer.image([LAYER], arch="mips")])
    assert "made for linux/mips" in find(writer).notes[0]


def test_docker_media_types(writer: ocilayout.Writer) -> None:
    stream = ocilayout.tar(LAYER)
    config = writer.json({"rootfs": {"diff_ids": [ocilayout.digest(stream)]}}, descriptor.DOCKER_CONFIG)
    layer = writer.blob(stream, "application/vnd.docker.image.rootfs.diff.tar.gzip")
    writer.index([writer.json({"schemaVersion": 2, "config": config, "layers": [layer]}, descriptor.DOCKER_MANIFEST)])
    assert len(find(writer).layers) == 1


Change = Callable[[ocilayout.Writer], None]


def manifest_with(**changes: Any) -> Change:
    def write(writer: ocilayout.Writer) -> None:
        good = writer.image([LAYER])
        path = writer.path / "blobs/sha256" / good["digest"].removeprefix("sha256:")
        value = {**json.loads(path.read_text()), **changes}
        writer.index([writer.json(value, descriptor.OCI_MANIFEST)])

    return write


def entry_with(**changes: Any) -> Change:
    def write(writer: ocilayout.Writer) -> None:
        writer.index([{**writer.image([LAYER]), **changes}])

    return write


def index_of(value: Any) -> Change:
    def write(writer: ocilayout.Writer) -> None:
        (writer.path / "index.json").write_text(value if isinstance(value, str) else json.dumps(value))

    return write


def config_of(value: Mapping[str, Any], kind: str = descriptor.OCI_CONFIG) -> Change:
    def write(writer: ocilayout.Writer) -> None:
        manifest_with(config=writer.json(value, kind))(writer)

    return write


def deep(writer: ocilayout.Writer) -> None:
    entry = writer.image([LAYER])
    for _ in range(6):
        entry = writer.json({"schemaVersion": 2, "manifests": [entry]}, descriptor.OCI_INDEX)
    writer.index([entry])


def swapped(writer: ocilayout.Writer) -> None:
    one, other = writer.image([LAYER]), writer.image([{"f": "g"}])
    blobs = writer.path / "blobs/sha256"
    path = blobs / one["digest"].removeprefix("sha256:")
    path.write_bytes((blobs / other["digest"].removeprefix("sha256:")).read_bytes())
    writer.index([one])


def fifo(writer: ocilayout.Writer) -> None:
    entry = writer.image([LAYER])
    path = writer.path / "blobs/sha256" / entry["digest"].removeprefix("sha256:")
    path.unlink()
    os.mkfifo(path)
    writer.index([entry])


SHA = "sha256:" + "0" * 64

BROKEN: dict[str, tuple[Change, str]] = {
    "no version": (lambda writer: (writer.path / "oci-layout").unlink(), "not an OCI image layout"),
    "other version": (lambda w: (w.path / "oci-layout").write_text('{"imageLayoutVersion":"2.0"}') and None, "`2.0`"),
    "no index": (lambda writer: None, "index.json` is missing"),
    "no json": (index_of("{"), "is not JSON"),
    "deep json": (index_of("[" * 100_000), "is not JSON"),
    "a list": (index_of([]), "not a JSON object"),
    "no manifests": (index_of({}), "no list `manifests`"),
    "empty": (index_of({"manifests": []}), "no image in"),
    "index and manifest": (index_of({"manifests": [], "layers": []}), "an index and a manifest at once"),
    "large": (index_of(" " * (5 << 20)), "larger than"),
    "path for a digest": (entry_with(digest="sha256:../../../etc/passwd"), "not a sha256 digest"),
    "upper-case digest": (entry_with(digest="sha256:" + "A" * 64), "not a sha256 digest"),
    "newline after digest": (entry_with(digest=SHA + "\n"), "not a sha256 digest"),
    "other algorithm": (entry_with(digest="md5:" + "0" * 32), "not a sha256 digest"),
    "no digest": (entry_with(digest=None), "not a sha256 digest"),
    "missing blob": (entry_with(digest=SHA), "is missing"),
    "size lies": (entry_with(size=7), "its descriptor says 7"),
    "size negative": (entry_with(size=-1), "no valid `size`"),
    "size text": (entry_with(size="7"), "no valid `size`"),
    "size huge": (entry_with(size=1 << 40), "larger than"),
    "media type lies": (entry_with(mediaType=descriptor.OCI_INDEX), "calls itself"),
    "artifact": (entry_with(mediaType="text/plain"), "neither an image nor an index"),
    "blob for another": (swapped, "has the digest sha256:|its descriptor says"),
    "fifo for a blob": (fifo, "not a regular file"),
    "nested": (deep, "nested more than 4 deep"),
    "manifest and index": (manifest_with(manifests=[]), "a manifest and an index at once"),
    "schema 1": (manifest_with(schemaVersion=1), "schemaVersion"),
    "no config": (manifest_with(config=None), "a descriptor is not an object"),
    "no layers": (manifest_with(layers=None), "no list `layers`"),
    "layer count": (manifest_with(layers=[]), "has 0 layers, its config 1"),
    "many layers": (manifest_with(layers=[{}] * 20_000), "reasonable length"),
    "layer type": (
        manifest_with(layers=[{"mediaType": "text/plain", "digest": SHA, "size": 1}]),
        "unknown media type",
    ),
    "encrypted": (
        manifest_with(
            layers=[{"mediaType": "application/vnd.oci.image.layer.v1.tar+encrypted", "digest": SHA, "size": 1}]
        ),
        "unknown media type",
    ),
    "artifact config": (config_of({}, "application/vnd.cncf.helm.config.v1+json"), "not a container image"),
    "config without rootfs": (config_of({}), "has 1 layers, its config 0"),
    "config diff_ids": (config_of({"rootfs": {"diff_ids": "x"}}), "not a list"),
    "config diff_id": (config_of({"rootfs": {"diff_ids": ["sha256:x"]}}), "not a sha256 digest"),
    "config type": (config_of({"rootfs": {"diff_ids": [SHA]}, "config": {"Cmd": "x"}}), "broken config"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(writer: ocilayout.Writer, name: str) -> None:
    change, message = BROKEN[name]
    change(writer)
    with pytest.raises(errors.ImageError, match=message) as caught:
        find(writer)
    assert str(caught.value).startswith("image `x`")
