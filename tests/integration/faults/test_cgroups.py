"""A container's cgroups go with it, whatever is in them."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from devenv.runtime import cgroup
from tests.integration.faults import test_sweep
from tests.integration.runtime import test_monitor
from tests.support import machine

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

world = test_monitor.world


@pytest.fixture
def lingerer() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody told to end, as one that has escaped from an exec would be."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        for folder in cgroup.of_process(process.pid) if process.poll() is None else ():
            for file, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                path = pathlib.Path(folder, file)
                if "below" in folder and path.exists():
                    path.write_text(word)
                    path.parent.parent.joinpath(file).write_text(word)
        process.kill()


def test_busy_and_frozen_below(world: test_monitor.World, lingerer: subprocess.Popen[bytes]) -> None:
    monitor = world.monitor()
    name = world.run(*test_sweep.PROGRAM)
    path = f"devenv/{test_monitor.PROJECT}/{name}"
    folders = cgroup.folders(path)
    if not folders:
        pytest.skip("needs cgroup v1 or v2 that may be written to")
    for folder in folders:
        below = pathlib.Path(folder, "below", "deeper")
        below.mkdir(parents=True)
        if (below / "cpuset.cpus").exists() and not (below / "cgroup.controllers").exists():
            for file in ("cpuset.cpus", "cpuset.mems"):
                for parent in (below.parent, below):
                    (parent / file).write_text(pathlib.Path(folder, file).read_text())
        (below / "cgroup.procs").write_text(str(lingerer.pid))
        for file, word in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            if (below.parent / file).exists():
                (below.parent / file).write_text(word)
    monitor.delete(name, force=True)
    assert cgroup.folders(path) == []
    assert lingerer.wait(5) == -9
    assert not any(os.path.exists(f"{folder}/below") for folder in folders)


@machine.needs_cgroup_v1
def test_an_engine_from_another_session(world: test_monitor.World) -> None:
    """Where its session is in another cgroup, as v1 has it, the next monitor finds what the first one made."""
    own = cgroup.place().hierarchies.get("memory")
    if own is None:
        pytest.skip("needs cgroup v1 with the controller memory")
    session = pathlib.Path(own, f"dvt-{os.getpid()}")
    session.mkdir()
    (session / "cgroup.procs").write_text(str(os.getpid()))
    try:
        monitor = world.monitor()
        name = world.run("sleep", "60")
    finally:
        pathlib.Path(own, "cgroup.procs").write_text(str(os.getpid()))
    made = session / "devenv" / test_monitor.PROJECT / name
    assert made.is_dir()
    world.kill_monitor()
    monitor = world.monitor(escrow=monitor.take_escrow())
    monitor.delete(name, force=True)
    assert not made.exists()
    session.rmdir()
