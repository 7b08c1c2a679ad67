"""The commands for images: named, looked at, moved to files and back, compared, removed."""

from __future__ import annotations

import gzip
import io
import json
import pathlib
import shutil
import subprocess
import tarfile
from typing import Any

import pytest

from tests import ocilayout
from tests.support import machine, projects, runner

CONFIG: dict[str, Any] = {"Cmd": ["sh"], "Labels": {"maker": "tests"}}


def loaded(devenv: runner.Devenv, *names: str) -> str:
    """An image that is here under these names; its id."""
    folder = pathlib.Path(devenv.folder, "layout")
    layers = [
        {"etc": ocilayout.folder(), "etc/a": "one\n", "etc/b": "two\n"},
        {"etc/a": "changed\n", "etc/b": None, "c": "new\n"},
    ]
    ocilayout.write_layout(folder, layers=layers, config=CONFIG)
    said = devenv("image", "load", "-i", str(folder)).stdout
    found: str = devenv("image", "ls", "-q", "--no-trunc").stdout.strip()
    assert said == f"Loaded image ID: {found}\n"
    for name in names:
        devenv("image", "tag", found, name)
    return found


def names(devenv: runner.Devenv) -> list[str]:
    return devenv("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()


def test_names_move_and_say_so(devenv: runner.Devenv) -> None:
    first = loaded(devenv, "app:1", "example.org/team/app")
    assert names(devenv) == ["app:1", "example.org/team/app:latest"]
    tar = pathlib.Path(devenv.folder, "files.tar")
    with tarfile.open(tar, "w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    told = devenv("image", "import", str(tar), "app:1", "-c", 'CMD ["x"]', "-m", "why").stderr
    assert "`app:1` was sha256:" in told
    assert devenv("image", "inspect", "-f", "{{.Id}}", "example.org/team/app").stdout.strip() == first
    found = devenv("image", "inspect", "app:1").stdout
    assert json.loads(found)[0]["Config"] == {"Cmd": ["x"]}
    assert "why" in devenv("image", "history", "app:1").stdout


def test_what_is_shown(devenv: runner.Devenv) -> None:
    found = loaded(devenv, "app:1")
    (shown,) = json.loads(devenv("image", "inspect", found[7:15]).stdout)
    assert (shown["Id"], shown["RepoTags"], shown["Config"]["Labels"]) == (found, ["app:1"], {"maker": "tests"})
    assert len(shown["RootFS"]["Layers"]) == 2
    assert devenv("image", "inspect", "-f", "{{json .Config.Cmd}}", "app:1").stdout == '["sh"]\n'
    assert devenv("image", "ls", "-f", "label=maker=others", "-q").stdout == ""
    assert devenv("image", "ls", "-f", "label=maker", "-f", "reference=ap*", "-q").stdout.strip() == found[7:19]
    assert devenv("image", "ls", "-f", "dangling=true", "-q").stdout == ""
    assert "no field `.Nothing`" in devenv("image", "ls", "--format", "{{.Nothing}}", code=2).stderr
    assert devenv("image", "ls", "--format", "table {{.Repository}}\\t{{.ID}}").stdout.split() == [
        "REPOSITORY",
        "ID",
        "app",
        found[7:19],
    ]
    assert "is not here" in devenv("image", "inspect", "nobody", code=4).stderr


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_what_an_image_changes(anyone: runner.Devenv) -> None:
    loaded(anyone, "app:1")
    # `etc` was made by the layer below, so only what is in it counts.
    assert anyone("image", "diff", "app:1").stdout.splitlines() == ["A /c", "C /etc", "C /etc/a", "D /etc/b"]
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("c"))
    pathlib.Path(anyone.folder, "other.tar").write_bytes(tar.getvalue())
    anyone("image", "import", f"{anyone.folder}/other.tar", "other")
    changes = anyone("image", "diff", "app:1", "other").stdout.splitlines()
    assert [change for change in changes if change != "C /c"] == ["A /etc", "A /etc/a"]
    assert "Top Layer of: [app:1]" in anyone("image", "tree", "app:1").stdout


def test_archives_go_round(devenv: runner.Devenv) -> None:
    found = loaded(devenv, "app:1", "app:2")
    archive = f"{devenv.folder}/saved.tar"
    devenv("image", "save", "-o", archive, "app:1", "app:2")
    packed = gzip.compress(pathlib.Path(archive).read_bytes())
    devenv("image", "rm", "app:1", "app:2")
    assert names(devenv) == []
    done = subprocess.run(
        [devenv.command, "image", "load"], input=packed, capture_output=True, env=devenv.environment(), timeout=60
    )
    assert done.stdout.decode().splitlines() == ["Loaded image: app:1", "Loaded image: app:2"], done.stderr
    assert devenv("image", "inspect", "-f", "{{.Id}}", "app:2").stdout.strip() == found


@machine.needs_binary("skopeo")
def test_others_read_what_is_saved(devenv: runner.Devenv) -> None:
    loaded(devenv, "app:1")
    archive = f"{devenv.folder}/saved.tar"
    devenv("image", "save", "-o", archive, "app:1")
    digest = devenv("image", "inspect", "-f", "{{.Descriptor.digest}}", "app:1").stdout.strip()
    skopeo = shutil.which("skopeo") or ""
    for reference in (f"oci-archive:{archive}:1", f"docker-archive:{archive}:app:1"):
        shown = subprocess.run([skopeo, "inspect", "--no-tags", reference], capture_output=True, text=True, timeout=60)
        assert shown.returncode == 0, shown.stderr
        if reference.startswith("oci"):
            assert json.loads(shown.stdout)["Digest"] == digest


def test_what_is_no_archive_is_refused(devenv: runner.Devenv) -> None:
    junk = pathlib.Path(devenv.folder, "junk")
    junk.write_bytes(b"no archive of anything" * 100)
    assert "junk" in devenv("image", "load", "-i", str(junk), code=4).stderr
    assert "is no archive of files" in devenv("image", "import", str(junk), "junk", code=4).stderr
    assert "CMDD" in devenv("image", "import", str(junk), "junk", "-c", "CMDD x", code=2).stderr
    assert devenv("image", "ls", "-q").stdout == ""


@pytest.mark.root
@machine.needs_binary("busybox")
def test_an_image_in_use_stays(devenv: runner.Devenv, project: projects.Project) -> None:
    ocilayout.busybox_layout(project / "layout", config={"Cmd": ["sleep", "1000"]})
    devenv("image", "load", "-i", "layout")
    found = devenv("image", "ls", "-q").stdout.strip()
    devenv("image", "tag", found, "app:1")
    project.write("name: used\nservices: {app: {image: 'app:1', pull_policy: never}}\n")
    devenv("up", "-d")
    (row,) = json.loads(devenv("images", "--format", "json").stdout)
    assert (row["ContainerName"], row["Repository"], row["Tag"]) == ("used-app-1", "app", "1")
    assert row["Platform"] == f"linux/{ocilayout.architecture()}"
    assert row["Size"] > 100_000
    assert devenv("images").stdout.split()[:7] == ["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE", "ID", "SIZE"]
    assert "is used by the container `used-app-1`" in devenv("image", "rm", "app:1", code=4).stderr
    devenv("image", "prune", "--all", "--force")
    assert names(devenv) == ["app:1"]
    devenv("down", "-t", "0")
    told = devenv("image", "prune", "--all", "--force").stdout
    assert "untagged: app:1" in told
    assert "Total reclaimed space: " in told
    assert not list(pathlib.Path(devenv.data, "blobs", "sha256").iterdir())
