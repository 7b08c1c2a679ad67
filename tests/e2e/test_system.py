"""What devenv takes on the disk: told so that it adds up, and got back by the rules that were told."""

from __future__ import annotations

import json
import os
import pathlib
import sqlite3
from typing import Any

import pytest

from tests import ocilayout
from tests.support import machine, projects, runner

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

MB = 1_000_000


def load(devenv: runner.Devenv, name: str, size: int) -> None:
    """An image of its own big layer, and one that all share."""
    folder = pathlib.Path(devenv.folder, name)
    shared = {"shared": ocilayout.file(b"s" * MB)}
    own = {"own": ocilayout.file(os.urandom(16) * (size // 16))}
    ocilayout.write_layout(folder, layers=[shared, own], config={"Cmd": [name]}, compress="")
    devenv("image", "load", "-i", str(folder))
    digest = json.loads((folder / "index.json").read_text())["manifests"][0]["digest"]
    devenv("image", "tag", digest.removeprefix("sha256:")[:12], f"{name}:1")


def df(devenv: runner.Devenv) -> dict[str, dict[str, Any]]:
    lines = devenv("system", "df", "--format", "json").stdout.splitlines()
    return {row["Type"]: row for row in map(json.loads, lines)}


def size(text: str) -> float:
    units = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
    first = text.partition(" ")[0]
    number = first.rstrip("BkMG")
    return float(number) * units[first.removeprefix(number)]


def blobs_and_layers(devenv: runner.Devenv) -> int:
    total = 0
    for part in ("blobs", "layers"):
        for parent, _, files in os.walk(f"{devenv.data}/{part}"):
            total += sum(os.lstat(f"{parent}/{name}").st_size for name in files if name != "layer.json")
    return total


def test_the_numbers_add_up(devenv: runner.Devenv, project: projects.Project) -> None:
    load(devenv, "one", 3 * MB)
    load(devenv, "two", 5 * MB)
    ocilayout.busybox_layout(project / "images", config={"Cmd": ["sleep", "1000"]})
    devenv("image", "load", "-i", "images")
    busybox = devenv("image", "ls", "-q", "-f", "dangling=true").stdout.strip()
    devenv("image", "tag", busybox, "app:1")
    project.write(
        "name: p\nservices:\n"
        "  app: {image: 'app:1', init: true, pull_policy: never, volumes: [data:/data, /anonymous]}\n"
        "volumes: {data: }\n"
    )
    devenv("up", "-d")
    devenv.inside("app", "head -c 2000000 /dev/zero > /data/x; head -c 4000000 /dev/zero > /tmp/y")
    found = df(devenv)
    assert size(found["Images"]["Size"]) == pytest.approx(blobs_and_layers(devenv), rel=0.01)
    assert (found["Images"]["TotalCount"], found["Images"]["Active"]) == ("3", "1")
    # What both have, and their own.
    assert size(found["Images"]["Reclaimable"]) == pytest.approx(9 * MB, rel=0.01)
    assert size(found["Containers"]["Size"]) == pytest.approx(4 * MB, rel=0.01)
    assert size(found["Containers"]["Reclaimable"]) == 0
    assert size(found["Local Volumes"]["Size"]) == pytest.approx(2 * MB, rel=0.01)
    assert found["Local Volumes"]["Active"] == "2"
    devenv("system", "prune", "--all", "--volumes", "--force")
    assert df(devenv)["Local Volumes"]["TotalCount"] == "2"
    load(devenv, "one", 3 * MB)
    devenv("stop", "-t", "0")
    promised = df(devenv)
    expected = size(promised["Containers"]["Reclaimable"]) + size(promised["Images"]["Reclaimable"])
    before = blobs_and_layers(devenv)
    devenv("container", "prune", "--force")
    # Now nothing uses the image of the container either.
    promised = df(devenv)
    assert size(promised["Images"]["Reclaimable"]) == pytest.approx(before, rel=0.01)
    told = devenv("system", "prune", "--all", "--volumes", "--force").stdout
    assert size(told.rpartition(": ")[2].strip()) == pytest.approx(before, rel=0.01)
    assert expected < before + 4.1 * MB
    left = df(devenv)
    assert (left["Images"]["Size"], left["Containers"]["TotalCount"]) == ("0B", "0")
    # The named volume stays, the anonymous one went.
    assert left["Local Volumes"]["TotalCount"] == "1"
    devenv("down", "-v")


def test_a_budget_takes_what_was_used_longest_ago(devenv: runner.Devenv) -> None:
    for name in ("one", "two", "three"):
        load(devenv, name, 3 * MB)
    told = devenv("system", "prune", "--keep", "8MB", "--force").stdout
    assert [line for line in told.splitlines() if line.startswith("untagged")] == ["untagged: one:1"]
    assert size(df(devenv)["Images"]["Size"]) == pytest.approx(7 * MB, rel=0.01)
    assert "Deleted" not in devenv("image", "prune", "--keep", "8MB", "--force").stdout
    assert "is no size" in devenv("image", "prune", "--keep", "much", "--force", code=2).stderr
    assert "no terminal" in devenv("system", "prune", code=2).stderr
    shown = devenv("system", "df", "-v", "--format", "{{.Name}} {{.UniqueSize}}").stdout.split()
    assert shown[0::2] == ["three:1", "two:1"] or shown[0::2] == ["two:1", "three:1"]
    assert [size(each) for each in shown[1::2]] == [pytest.approx(3 * MB, rel=0.01)] * 2


def digests(devenv: runner.Devenv) -> dict[str, str]:
    lines = devenv("image", "ls", "--digests", "--format", "{{.Repository}} {{.Digest}}").stdout.splitlines()
    return dict(line.split() for line in lines)


def age(devenv: runner.Devenv, *names: str) -> None:
    """As if they had been used in this order, an hour apart, all long ago."""
    known = digests(devenv)
    with sqlite3.connect(f"{devenv.data}/devenv.db") as database:
        for number, name in enumerate(names):
            moment = 1e9 + number * 3600
            database.execute("UPDATE images SET added = ? WHERE digest = ?", (moment, known[name]))
    database.close()


def test_what_projects_name_is_the_last_to_be_taken(devenv: runner.Devenv, project: projects.Project) -> None:
    """By a lock whose project is down, by a spec, and a container's never; of equals the one used longest ago first."""
    names = ("contained", "locked", "loose-b", "loose-a")
    for name in names:
        load(devenv, name, 3 * MB)
    ocilayout.busybox_layout(project / "images", config={"Cmd": ["sleep", "1000"]})
    (project / "devenv.lock").write_text(
        f'version = 1\n\n[images."docker.io/library/locked:1"]\ndigest = "{digests(devenv)["locked"]}"\n'
    )
    project.write("name: p\nservices:\n  app: {image: 'oci:images', init: true}\n")
    devenv("up", "-d")
    devenv("down", "-t", "0")
    project.write("name: p\nservices:\n  app: {image: 'contained:1', command: none, pull_policy: never}\n")
    devenv("create")
    age(devenv, *names)
    taken = []
    for left in (11, 8, 5, 1):
        told = devenv("image", "prune", "--keep", f"{left}MB", "--force").stdout
        taken += [line.removeprefix("untagged: ") for line in told.splitlines() if line.startswith("untagged")]
    assert taken == ["loose-b:1", "loose-a:1", "locked:1"]
    (project / "devenv.lock").unlink()
    devenv("image", "prune", "--keep", "1MB", "--force")
    assert os.listdir(f"{devenv.data}/locks") == []
    devenv("down")
