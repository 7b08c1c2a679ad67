"""`storage_opt: {size: …}`: what a container may write of its own. The guest of `tests.guest` has the quotas for it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from devenv.linux import quota
from tests.support import filesystem, machine, projects, runner

PROJECT = """
    name: sized
    x-base: &base {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
    services:
      small: {<<: *base, storage_opt: {size: 8m}}
      other: {<<: *base, storage_opt: {size: 8m}}
      large: *base
"""
FILL = "dd if=/dev/zero of=/var/{} bs=1M count={} conv=fsync 2>&1"


def project_of(path: pathlib.Path) -> int:
    opened = os.open(path, os.O_RDONLY)
    try:
        return quota.project(opened)
    finally:
        os.close(opened)


def is_used(number: int, on: pathlib.Path) -> bool:
    opened = os.open(on, os.O_RDONLY)
    try:
        return quota.is_used(opened, number)
    finally:
        os.close(opened)


@pytest.fixture
def disk(devenv: runner.Devenv, short_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The data folder on a filesystem with project quotas."""
    place = short_path / "fs"
    with filesystem.mounted(
        "ext4", place, short_path / "images", 256 << 20, made="-q -O quota,project", options="loop,prjquota"
    ):
        devenv.data = f"{place}/d"
        yield place


@pytest.mark.root
@machine.needs_root
def test_a_container_writes_so_much_and_no_more(
    devenv: runner.Devenv, project: projects.Project, disk: pathlib.Path
) -> None:
    project.write(PROJECT)
    assert "storage_opt" not in devenv("up", "-d").stderr

    def fill(*steps: str) -> str:
        return devenv("exec", "-T", "small", "sh", "-c", "; ".join(steps), code=None).stdout

    said = fill("df -k --output=size / | tail -n 1", FILL.format("f", 20), "rm /var/f")
    assert said.split()[0] == "8192"
    assert "Disk quota exceeded" in said
    uppers = {path.parent.name: path for path in disk.glob("d/containers/*/upper")}
    ids = {each["Service"]: each["ID"] for each in devenv.json("ps", "--no-trunc")}
    numbers = {name: project_of(uppers[found]) for name, found in ids.items()}
    assert len(set(numbers.values())) == 3
    assert numbers["large"] == 0
    # What came back from a snapshot counts again, and what it replaced no more.
    assert "Disk quota" not in fill(FILL.format("g", 5))
    devenv("snapshot", "save", "s")
    devenv("snapshot", "restore", "s")
    assert "Disk quota exceeded" in fill(FILL.format("h", 5), "rm /var/g")
    again = project_of(uppers[ids["small"]])
    assert again not in {0, *numbers.values()}
    devenv("down")
    devenv("snapshot", "rm", "s", "--automatic")
    assert not any(is_used(number, disk) for number in (again, numbers["small"], numbers["other"]))


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_without_quotas_it_is_said(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write("""
        services:
          app: {image: "host:", command: "true", storage_opt: {size: 10G, inode: "5"}}
    """)
    told = anyone("up").stderr
    assert "`storage_opt: inode` has no effect (`size` has)" in told
    reason = "only root can" if anyone.user else "has no project quotas"
    assert "`storage_opt: size` has no effect: " in told
    assert reason in told
    project.edit("10G", "ten")
    assert "`ten` is not a size" in anyone("up", code=2).stderr
    anyone("down")
