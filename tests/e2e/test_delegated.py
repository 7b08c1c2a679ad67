"""An ordinary user with a cgroup v2 of their own has limits, pauses, statistics and a clean end, as root has."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

import pytest

from devenv.runtime import cgroup
from tests.support import machine, polling, projects, runner

TOP = pathlib.Path("/sys/fs/cgroup")

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]


@pytest.fixture
def delegated(devenv_as: runner.Maker) -> Iterator[runner.Devenv]:
    """Everything that the test starts is in there, as in a scope that systemd has delegated."""
    if cgroup.place().version != 2:
        pytest.skip("needs cgroup v2")
    devenv = devenv_as("dvrange")
    assert devenv.user is not None
    (own,) = (line.split("::")[1] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines())
    for name in (TOP / "cgroup.controllers").read_text().split():
        (TOP / "cgroup.subtree_control").write_text(f"+{name}")
    given = TOP / f"dvt-{devenv.user.uid}"
    session = given / "session"
    session.mkdir(parents=True)
    for path in (given, given / "cgroup.procs", given / "cgroup.subtree_control", session, session / "cgroup.procs"):
        os.chown(path, devenv.user.uid, devenv.user.uid)
    (session / "cgroup.procs").write_text(str(os.getpid()))
    yield devenv
    (TOP / own.strip("/") / "cgroup.procs").write_text(str(os.getpid()))
    devenv.close()
    for folder, _, _ in os.walk(given, topdown=False):
        polling.eventually(lambda folder=folder: _removed(folder))  # type: ignore[misc]


def _removed(folder: str) -> bool:
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    return not os.path.exists(folder)


def _root(folder: pathlib.Path) -> None:
    """An image of one program: of a guest's own system, which comes over 9p, a kernel of 6.1 makes no layer."""
    binaries = folder / "root" / "bin"
    binaries.mkdir(parents=True)
    program = shutil.which("busybox")
    assert program is not None
    shutil.copy(program, binaries / "busybox")
    for name in ("sh", "sleep", "tail"):
        (binaries / name).symlink_to("busybox")


def test_limits_pause_stats_and_end(delegated: runner.Devenv) -> None:
    devenv = delegated
    project = projects.Project(pathlib.Path(devenv.folder, "p"), devenv.user.uid if devenv.user else None)
    devenv.cwd = str(project.path)
    _root(project.path)
    project.write(
        """
        services:
          hog:
            image: rootfs:root
            command: tail /dev/zero
            mem_limit: 20m
            memswap_limit: 20m
            network_mode: none
          bomb:
            image: rootfs:root
            command: sh -c '(while :; do sleep 9999 & done) & while :; do :; done'
            pids_limit: 30
            cpus: 0.2
            network_mode: none
            stop_signal: SIGKILL
        """
    )
    up = devenv("up", "-d")
    assert "are not set" not in up.stderr
    polling.eventually(lambda: "out of memory" in devenv.ps()["p-hog-1"]["Status"], 60)

    def stats() -> dict[str, str]:
        lines = devenv("stats", "--no-stream", "--format", "json").stdout.splitlines()
        return next(row for row in map(json.loads, lines) if "bomb" in row["Name"])

    polling.eventually(lambda: int(stats()["PIDs"]) > 20, 60)
    row = stats()
    assert int(row["PIDs"]) <= 30
    # Two hundred per cent were wanted.
    assert float(row["CPUPerc"].removesuffix("%")) < 40
    assert float(row["CPUPressure"].removesuffix("%")) > 0
    devenv("pause", "bomb")
    assert devenv.ps()["p-bomb-1"]["State"] == "paused"
    devenv("down")
    assert not list(TOP.rglob(f"dvt-{devenv.user.uid if devenv.user else ''}/devenv/*"))
