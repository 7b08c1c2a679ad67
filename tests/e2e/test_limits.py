"""Limits as the spec names them, and what one hears of a service that goes beyond."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable

import pytest

from devenv.runtime import cgroup, offered
from tests.support import polling, projects, runner

pytestmark = pytest.mark.root

_DISKS = ("/dev/loop0", "/dev/vda", "/dev/sda", "/dev/nvme0n1")


def test_out_of_memory_is_told(devenv: runner.Devenv, project: projects.Project) -> None:
    """Once in every place where one would look; an attached `up` ends as with any other exit."""
    if cgroup.limits_available()["memory"]:
        pytest.skip("needs cgroup v1 or v2 with the controller memory")
    project.write(
        """
        services:
          hog:
            image: "host:"
            command: tail /dev/zero
            mem_limit: 20m
            memswap_limit: 20m
            stop_grace_period: 0s
          other:
            image: "host:"
            command: sleep 600
            stop_grace_period: 0s
        """
    )
    devenv("create")
    heard: list[str] = []
    with devenv.start("events", "--json") as events:
        try:
            up = devenv("up", "--abort-on-container-exit", code=137)
            while "die" not in heard:
                event = json.loads(events.stdout.readline())  # type: ignore[union-attr]
                heard += [event["action"]] if event["service"] == "hog" else []
        finally:
            events.kill()
    assert heard == ["start", "oom", "die"]
    assert "exited with code 137, out of memory: it may have 20 MiB, `mem_limit` gives it more" in up.stderr
    (hog,) = (each for each in devenv.json("ps", "--all") if each["Service"] == "hog")
    assert (hog["State"], hog["ExitCode"]) == ("exited", 137)
    assert hog["Status"].endswith(", out of memory")
    devenv("down")


def test_every_limit_reaches_the_kernel(devenv: runner.Devenv, project: projects.Project) -> None:
    if any(cgroup.limits_available()[name] for name in ("memory", "cpu", "cpuset", "pids")):
        pytest.skip("needs cgroup v1 or v2 with memory, cpu, cpuset and pids")
    project.write(
        """
        x-service: &service {image: "host:", command: sleep 600, stop_grace_period: 0s}
        services:
          limited:
            <<: *service
            mem_limit: 64m
            mem_reservation: 32m
            cpus: 0.25
            cpu_shares: 512
            cpuset: "0"
            pids_limit: 77
          deployed:
            <<: *service
            deploy: {resources: {limits: {memory: 48m, cpus: "1.5", pids: 66}}}
          plain:
            <<: *service
          boundless:
            <<: *service
            pids_limit: -1
        """
    )
    devenv("up", "-d")
    found = {each["Service"]: _files(devenv, each["ID"]) for each in devenv.json("ps", "--no-trunc")}
    limited, deployed = found["limited"], found["deployed"]
    assert [limited("memory.max", "memory.limit_in_bytes"), limited("pids.max")] == [str(64 << 20), "77"]
    assert limited("memory.low", "memory.soft_limit_in_bytes") == str(32 << 20)
    assert limited("cpuset.cpus") == "0"
    assert limited("cpu.max", "cpu.cfs_quota_us").split()[0] == "25000"
    assert limited("cpu.weight", "cpu.shares") in {"20", "512"}
    assert [deployed("memory.max", "memory.limit_in_bytes"), deployed("pids.max")] == [str(48 << 20), "66"]
    assert deployed("cpu.max", "cpu.cfs_quota_us").split()[0] == "150000"
    # A fork bomb that nobody thought of shall not take the machine along.
    assert found["plain"]("pids.max") == "4096"
    assert found["boundless"]("pids.max") == "max"
    devenv("down")


def test_up_changes_limits_of_what_runs(devenv: runner.Devenv, project: projects.Project) -> None:
    """The same process goes on with them; a limit that is gone from the spec is taken back; a restart keeps them."""
    if any(cgroup.limits_available()[name] for name in ("memory", "cpu", "cpuset", "pids")):
        pytest.skip("needs cgroup v1 or v2 with memory, cpu, cpuset and pids")
    project.write(
        """
        services:
          app:
            image: "host:"
            command: python3 -c 'import time; held = bytearray(48 << 20); print("holding", flush=True); time.sleep(600)'
            mem_limit: 128m
            cpus: 0.25
            cpuset: "0"
            pids_limit: 77
            stop_signal: SIGKILL
        """
    )
    devenv("up", "-d")
    polling.eventually(lambda: "holding" in devenv("logs").stdout)
    before = devenv.json("ps", "--no-trunc")
    project.edit("128m", "256m").edit("cpus: 0.25", "cpu_shares: 2048").edit("cpuset: .*", "mem_reservation: 16m")
    project.edit("pids_limit: 77", "restart: always")
    planned = "container.update  service:app:1  (cpu_shares, cpus, cpuset, mem_limit, mem_reservation, pids_limit"
    assert planned in devenv("plan").stdout
    up = devenv("up", "-d")
    assert "Updated" in up.stderr
    after = devenv.json("ps", "--no-trunc")
    assert (after["ID"], after["State"]) == (before["ID"], "running")
    for _ in range(2):
        seen = devenv("logs").stdout.count("holding")
        read = _files(devenv, after["ID"])
        assert read("memory.max", "memory.limit_in_bytes") == str(256 << 20)
        assert read("memory.low", "memory.soft_limit_in_bytes") == str(16 << 20)
        assert read("cpu.max", "cpu.cfs_quota_us").split()[0] in {"max", "-1"}
        assert read("cpu.weight", "cpu.shares") in {"79", "2048"}
        assert read("cpuset.cpus.effective", "cpuset.effective_cpus") == read("cpuset.cpus.effective", "cpuset.cpus")
        assert read("pids.max") == "4096"
        assert devenv("plan").stdout == "nothing to do\n"
        devenv("restart")
        polling.eventually(lambda seen=seen: devenv("logs").stdout.count("holding") > seen, 30)
    # Less than what it holds can't be had, and is no reason to end it.
    project.edit("256m", "32m")
    failed = devenv("up", "-d", code=1)
    assert "more memory is in use than the new limit of 32 MiB" in failed.stderr
    assert "--force-recreate" in failed.stderr
    assert devenv.ps()["p-app-1"]["State"] == "running"
    devenv("down")


def test_what_only_some_kernels_have(devenv: runner.Devenv, project: projects.Project) -> None:
    """Disks, swappiness and the OOM killer: set where the kernel knows them, and else said to be without effect."""
    if any(cgroup.limits_available()[name] for name in ("memory", "cpu", "io")):
        pytest.skip("needs cgroup v1 or v2 with memory, cpu and io")
    disk = next((path for path in map(pathlib.Path, _DISKS) if path.is_block_device()), None)
    if disk is None:
        pytest.skip(f"needs one of {', '.join(_DISKS)}")
    project.write(
        f"""
        x-service: &service {{image: "host:", command: sleep 600, stop_grace_period: 0s}}
        services:
          one:
            <<: *service
            mem_swappiness: 0
            oom_kill_disable: true
            oom_score_adj: 321
            cpu_quota: 30000
            cpu_period: 60000
            blkio_config:
              weight: 250
              device_read_bps: [{{path: {disk}, rate: 12mb}}]
              device_write_iops: [{{path: {disk}, rate: 34}}]
          two: {{<<: *service, mem_swappiness: 17}}
        """
    )
    told = devenv("up", "-d").stderr
    found = {each["Service"]: each["ID"] for each in devenv.json("ps", "--no-trunc")}
    one, two = (_files(devenv, found[name]) for name in ("one", "two"))
    number = f"{os.major(disk.stat().st_rdev)}:{os.minor(disk.stat().st_rdev)}"
    if cgroup.place().version == 1:
        assert (one("memory.swappiness"), two("memory.swappiness")) == ("0", "17")
        assert "oom_kill_disable 1" in one("memory.oom_control")
        assert one("blkio.throttle.read_bps_device") == f"{number} {12 << 20}"
        assert one("blkio.throttle.write_iops_device") == f"{number} 34"
    else:
        assert one("io.max") == f"{number} rbps={12 << 20} wbps=max riops=max wiops=34"
        for attribute in ("mem_swappiness", "oom_kill_disable"):
            assert f"`{attribute}` has no effect with cgroup v2" in told
    # A kernel without weights is no reason not to start.
    weights = offered.files() & {"blkio.bfq.weight", "blkio.weight", "io.weight"}
    assert ("`blkio_config: weight` has no effect on this kernel" in told) == (not weights)
    if weights and cgroup.place().version == 1:
        assert one(*weights).removeprefix("default ").strip() == "250"
    assert one("cpu.max", "cpu.cfs_quota_us").split()[0] == "30000"
    assert one("cpu.max", "cpu.cfs_period_us").split()[-1] == "60000"
    assert devenv("exec", "one", "cat", "/proc/self/oom_score_adj").stdout.strip() == "321"
    devenv("down")


def test_a_cgroup_of_ones_own_choice(devenv: runner.Devenv, project: projects.Project) -> None:
    """What was there stays; what had to be made above the containers goes with the last of them."""
    if cgroup.place().version == 0:
        pytest.skip("needs a cgroup that can be written to")
    top = f"devenv-test-{os.getpid()}"
    roots = [pathlib.Path(folder) for folder in dict.fromkeys(cgroup.place().roots.values())]
    project.write(
        f"""
        x-service: &service {{image: "host:", command: sleep 600, stop_grace_period: 0s}}
        services:
          one: {{<<: *service, cgroup_parent: /{top}/a/b, pids_limit: 50}}
          two: {{<<: *service, cgroup_parent: {top}/a}}
          three: {{<<: *service, cgroup_parent: {top}-x.slice}}
        """
    )
    for root in roots:
        (root / top).mkdir()
    try:
        assert "cgroup_parent" not in devenv("up", "-d").stderr
        found = {each["Service"]: each["ID"] for each in devenv.json("ps", "--no-trunc")}
        for root in roots:
            assert (root / top / "a/b" / found["one"] / "cgroup.procs").read_text()
            assert (root / top / "a" / found["two"] / "cgroup.procs").read_text()
            assert len(list(root.glob(f"devenv.slice/**/{top}-x.slice/{found['three']}"))) == 1
        assert _files(devenv, found["one"])("pids.max") == "50"
        assert devenv("plan").stdout == "nothing to do\n"
        devenv("stop", "one")
        assert not any((root / top / "a/b").exists() for root in roots)
        assert all((root / top / "a").exists() for root in roots)
        devenv("down")
        assert not any((root / top / "a").exists() or (root / "devenv.slice").exists() for root in roots)
        assert all((root / top).exists() for root in roots)
    finally:
        for root in roots:
            (root / top).rmdir()


def _files(devenv: runner.Devenv, container_id: str) -> Callable[..., str]:
    """Reads a container's file, by whichever of its names there is."""
    pid = json.loads(pathlib.Path(devenv.data, "containers", container_id, "state.json").read_text())["pid"]
    folders = cgroup.of_container(pid, container_id).values()

    def read(*names: str) -> str:
        files = [pathlib.Path(folder, name) for name in names for folder in folders]
        return next(file for file in files if file.exists()).read_text().strip()

    return read
