"""A machine that fails: a reboot, a full disk, a process that lingers, a container that is frozen."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from devenv.runtime import cgroup
from tests.support import engine, projects, runner
from tests.support.polling import always, eventually

pytestmark = pytest.mark.root

SPEC = """
    name: shop
    services:
      always: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, restart: always}
      unless: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, restart: unless-stopped}
      never: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
      other: {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL}
"""


def folders(devenv: runner.Devenv) -> dict[str, pathlib.Path]:
    found = {}
    for path in pathlib.Path(devenv.data, "containers").glob("[!.]*/container.json"):
        found[json.loads(path.read_text())["service"]] = path.parent
    return found


def state(folder: pathlib.Path) -> dict[str, Any]:
    return dict(json.loads((folder / "state.json").read_text()))


def states(devenv: runner.Devenv) -> dict[str, str]:
    return {row["Service"]: row["State"] for row in devenv.ps().values()}


def reboot(devenv: runner.Devenv) -> None:
    """As the disk looks after one: no process, no run folder, and states of a boot that is over."""
    pids = [state(folder)["pid"] for folder in folders(devenv).values() if state(folder)["status"] == "running"]
    engine.kill(*(engine.find(devenv, role) for role in engine.ROLES))
    engine.kill(*pids)
    for folder in folders(devenv).values():
        (folder / "state.json").write_text(json.dumps(state(folder) | {"boot_id": "00000000-another-boot"}))
        for path in cgroup.folders(f"devenv/{json.loads((folder / 'container.json').read_text())['project_id']}"):
            for here, _, _ in os.walk(path, topdown=False):
                os.rmdir(here)
    shutil.rmtree(devenv.run_directory)


def test_reboot(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    devenv("up", "-d")
    devenv("stop", "unless")
    reboot(devenv)
    assert set(states(devenv).values()) == {"exited"}
    assert devenv.ps()["shop-never-1"]["ExitCode"] == 255
    # A stranger has got the number of a container of before.
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        folder = folders(devenv)["never"]
        start = int(pathlib.Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19])
        (folder / "state.json").write_text(json.dumps(state(folder) | {"pid": stranger.pid, "start_time": start}))
        # Policies act once there is a supervisor; what a person stopped and what has no policy stay as they are.
        devenv("up", "-d", "other")
        eventually(lambda: states(devenv)["always"] == "running", 5)
        assert states(devenv) == {"always": "running", "other": "running", "unless": "exited", "never": "exited"}
        devenv("up", "-d")
        assert set(states(devenv).values()) == {"running"}
        devenv("down")
        assert stranger.poll() is None
        stranger.kill()
    assert folders(devenv) == {}


def test_run_folder_lost_while_containers_run(devenv: runner.Devenv, project: projects.Project) -> None:
    """Somebody's cleaner of /run or /tmp: the containers are found again by what the data folder says."""
    project.write(SPEC)
    devenv("up", "-d")
    pids = {service: state(folder)["pid"] for service, folder in folders(devenv).items()}
    old = [engine.find(devenv, role) for role in ("supervisor", "zygote", "monitor")]
    shutil.rmtree(devenv.run_directory)
    assert set(states(devenv).values()) == {"running"}
    engine.kill(*old)
    devenv("up", "-d")
    assert {service: state(folder)["pid"] for service, folder in folders(devenv).items()} == pids
    devenv("down")
    assert folders(devenv) == {}


# -- a full disk --


@pytest.fixture
def disk(devenv: runner.Devenv) -> Iterator[pathlib.Path]:
    """The data folder on a file system of its own."""
    path = pathlib.Path(devenv.data)
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(path)], check=True)
    yield path
    devenv.close()
    subprocess.run(["umount", str(path)], check=True)


def fill(disk: pathlib.Path) -> pathlib.Path:
    stopper = disk / "stopper"
    with stopper.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    return stopper


def test_no_space_to_come_up(devenv: runner.Devenv, project: projects.Project, disk: pathlib.Path) -> None:
    project.write(SPEC)
    devenv("up", "-d")
    devenv("down")
    stopper = fill(disk)
    said = devenv("up", "-d", code=None)
    assert said.returncode != 0
    assert "No space left on device" in said.stderr
    assert "Traceback" not in said.stderr
    assert not list(disk.glob("containers/.*"))
    assert not list(disk.rglob("*.tmp.*"))
    assert "running" not in states(devenv).values()
    stopper.unlink()
    devenv("up", "-d")
    assert set(states(devenv).values()) == {"running"}


def test_no_space_while_it_runs(devenv: runner.Devenv, project: projects.Project, disk: pathlib.Path) -> None:
    """Records of logs are lost, and that is told; nothing else is."""
    project.write(
        SPEC.replace(
            "services:",
            """services:
      loud:
        image: "host:"
        command: [sh, -c, 'i=0; while :; do i=$$((i+1)); printf %0400d $$i; echo; sleep 0.01; done']
        stop_signal: SIGKILL""",
        )
    )
    devenv("up", "-d")
    pids = {service: state(folder)["pid"] for service, folder in folders(devenv).items()}
    log = folders(devenv)["loud"] / "logs" / "container.log"
    eventually(lambda: log.exists() and log.stat().st_size > 0)
    stopper = fill(disk)
    size = log.stat().st_size
    always(lambda: states(devenv)["loud"] == "running", 1.0)
    # What was left of the log's last block may have been filled since.
    assert log.stat().st_size <= size + 4096
    stopper.unlink()
    eventually(lambda: b"missing here" in log.read_bytes())
    fill(disk)
    engine.kill(engine.find(devenv, "monitor"))
    eventually(lambda: engine.find(devenv, "monitor"))
    assert states(devenv)["loud"] == "running"
    assert {service: state(folder)["pid"] for service, folder in folders(devenv).items()} == pids
    devenv("down")
    assert folders(devenv) == {}


# -- processes that don't go --


def test_down_of_a_frozen_container(devenv: runner.Devenv, project: projects.Project) -> None:
    if cgroup.place().version == 1 and "freezer" not in cgroup.place().hierarchies:
        pytest.skip("needs cgroup v1 with a freezer")
    project.write(SPEC)
    devenv("up", "-d")
    pids = [state(folder)["pid"] for folder in folders(devenv).values()]
    devenv("pause")
    assert set(states(devenv).values()) == {"paused"}
    # Adopted as what it is, and thawed before it is killed.
    engine.kill(engine.find(devenv, "monitor"), engine.find(devenv, "supervisor"))
    eventually(lambda: engine.find(devenv, "supervisor"))
    assert set(states(devenv).values()) == {"paused"}
    devenv("kill", "always")
    eventually(lambda: states(devenv)["always"] == "exited")
    devenv("down", "-t", "1")
    assert folders(devenv) == {}
    assert not any(engine.alive(pid) for pid in pids)


def test_a_killed_monitor_is_noticed_within_a_second(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    devenv("up", "-d")
    before = engine.find(devenv, "monitor")
    never = state(folders(devenv)["never"])["pid"]
    engine.kill(before)
    eventually(lambda: engine.find(devenv, "monitor") not in {None, before}, 1.0)
    engine.kill(never)
    eventually(lambda: states(devenv)["never"] == "exited", 1.0)
    assert devenv.ps()["shop-never-1"]["ExitCode"] in {137, 255}
