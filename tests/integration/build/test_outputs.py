"""What becomes of an image that was built: files, archives, several platforms, and the same bits everywhere."""

from __future__ import annotations

import json
import pathlib
import tarfile

import pytest

from devenv import errors
from devenv.build import request, scope
from devenv.image import loading
from devenv.util import paths
from tests.support import building, machine

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

FILES = "FROM scratch AS files\nCOPY --chmod=640 --chown=7:8 a /d/a\nCOPY b /\n"


def test_local_writes_the_files(builder: building.Builder, tmp_path: pathlib.Path) -> None:
    builder.write({"a": "1", "b": "2"})
    given = builder.request(FILES, tags=(), outputs=(request.Output("local", str(tmp_path / "out")),))

    store = building.image_store.ImageStore(builder.where)
    (made,) = building.solver.solve([given], where=builder.where, store=store, tell=lambda _: None)
    store.close()

    assert made.target is None
    found = {str(path.relative_to(tmp_path)): path.lstat() for path in tmp_path.rglob("*")}
    assert set(found) == {"out", "out/d", "out/d/a", "out/b"}
    assert found["out/d/a"].st_mode & 0o777 == 0o640
    assert found["out/d/a"].st_uid == 0
    assert (tmp_path / "out/d/a").read_text() == "1"


def test_tar_writes_the_files_with_their_owners(builder: building.Builder, tmp_path: pathlib.Path) -> None:
    builder.write({"a": "1", "b": "2"})

    builder.build(FILES, outputs=(request.Output("tar", str(tmp_path / "x.tar")), request.Output("image", "")))

    with tarfile.open(tmp_path / "x.tar") as archive:
        assert archive.getnames() == ["b", "d", "d/a"]
        assert (archive.getmember("d/a").uid, archive.getmember("d/a").gid) == (7, 8)


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_archives_load_elsewhere(builder: building.Builder, tmp_path: pathlib.Path, kind: str) -> None:
    builder.write({"a": "1", "b": "2"})
    output = (request.Output(kind, str(tmp_path / "x.tar")), request.Output("image", ""))
    built = builder.build(FILES, outputs=output)
    where = paths.Paths(f"{tmp_path}/data", f"{tmp_path}/run")
    paths.prepare(where)

    (loaded,) = loading.load(where, str(tmp_path / "x.tar"), what="x")

    assert loaded.tags == (building.TAG,)
    store = building.image_store.ImageStore(where)
    assert json.loads(store.blobs.read(loaded.target, what=""))["config"]["digest"] == built.result.id
    assert store.resolve("built", base="/").digest == built.result.id
    store.close()


def test_several_platforms_are_an_index(builder: building.Builder) -> None:
    builder.write({"a": "1", "b": "2"})
    dockerfile = FILES + "ARG TARGETPLATFORM\nLABEL made.for=$TARGETPLATFORM\n"

    built = builder.solve(builder.request(dockerfile, platforms=("linux/amd64", "linux/arm64/v8", "linux/arm/v7")))[0]

    assert built.target.media_type == "application/vnd.oci.image.index.v1+json"
    store = building.image_store.ImageStore(builder.where)
    entries = json.loads(store.blobs.read(built.target, what=""))["manifests"]
    store.close()
    assert [each["platform"] for each in entries] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
    ]
    assert built.config["Labels"] == {"made.for": str(scope.own())}


def test_a_command_for_a_processor_that_nothing_emulates_is_refused(builder: building.Builder) -> None:
    with pytest.raises(errors.BuildError, match="linux/s390x can't run here") as caught:
        builder.build('FROM scratch\nRUN ["/x"]\n', platforms=("linux/s390x",))

    assert caught.value.line == 2


def test_source_date_epoch_makes_the_same_bits_on_two_machines(tmp_path: pathlib.Path) -> None:
    dockerfile = (
        "FROM busybox\nWORKDIR /w\nCOPY src/ src/\nRUN echo x > y && mkdir z && date > /tmp/now && rm /tmp/now\n"
    )
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        each = building.Builder(tmp_path / name)
        each.write({"src/a": "1", "src/b/c": "2"})
        made = each.build(
            dockerfile.replace("FROM busybox", "FROM base"),
            contexts={"base": f"oci-layout://{each.folder}/busybox"},
            arguments={"SOURCE_DATE_EPOCH": "1700000000"},
        )
        found.append((made.target.digest, made.document))

    assert found[0] == found[1]
    assert found[0][1]["created"] == "2023-11-14T22:13:20Z"


def test_labels_and_names_come_from_the_request(builder: building.Builder) -> None:
    builder.write({"a": "1", "b": "2"})
    more = (request.Output("image", "", {"name": "other,third:2"}),)

    built = builder.build(FILES + "LABEL a=1\n", labels={"b": "2"}, outputs=more)

    assert built.config["Labels"] == {"a": "1", "b": "2"}
    assert built.result.tags == (building.TAG, "docker.io/library/other:latest", "docker.io/library/third:2")
