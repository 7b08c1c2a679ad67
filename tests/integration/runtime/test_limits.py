"""Limits, each shown by a program that exceeds it, on both cgroup versions: the guest of `tests.guest` runs it, too."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devenv.runtime import cgroup, resources
from tests.integration.runtime import test_monitor
from tests.support import machine, polling

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

world = test_monitor.world

MIB = 1 << 20
# Grows by a MiB a turn and says so; busybox's `tail` of a file without lines keeps all of it.
HOG = "tail /dev/zero"
# Needs its memory in user space, where a process is made to wait; a system call answers with ENOMEM.
GROW = "x=0123456789abcdef; while :; do x=$x$x; done"
LIMITS = {"nofile": (20, 20)}
BURN = "while :; do :; done"


def _skip_without(*controllers: str) -> None:
    lacking = [name for name in controllers if cgroup.limits_available().get(name, "no such controller")]
    if lacking:
        pytest.skip(f"needs cgroup v1 or v2 with the controller {lacking[0]}")


def _path(name: str) -> str:
    return f"devenv/{test_monitor.PROJECT}/{name}"


def _read(name: str, *files: str) -> str:
    """A container's file, which each version calls otherwise."""
    for folder in cgroup.folders(_path(name)):
        for file in files:
            if os.path.exists(f"{folder}/{file}"):
                return pathlib.Path(folder, file).read_text().strip()
    raise FileNotFoundError(files[0])


def _pairs(text: str) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def _cpu_seconds(name: str) -> float:
    for folder in cgroup.folders(_path(name)):
        if os.path.exists(f"{folder}/cpuacct.usage"):
            return int(pathlib.Path(folder, "cpuacct.usage").read_text()) / 1e9
    return _pairs(_read(name, "cpu.stat"))["usage_usec"] / 1e6


def test_memory_of_a_process_beside_the_first(world: test_monitor.World) -> None:
    """The kernel ends the one that took too much; the container goes on, and tells of it at its end."""
    _skip_without("memory")
    world.monitor()
    limits = resources.Resources(memory=24 * MIB, memory_swap=24 * MIB)
    name = world.run("sh", "-c", f"{HOG}; echo ended with $?; exit 5", resources=limits)
    state = world.stopped(name)
    assert world.lines(name) == [b"Killed", b"ended with 137"]
    assert (state["exit_code"], state["oom_killed"]) == (5, True)


def test_memory_below_the_limit_is_nobodys_business(world: test_monitor.World) -> None:
    _skip_without("memory")
    world.monitor()
    limits = resources.Resources(memory=48 * MIB, memory_swap=48 * MIB, memory_reservation=16 * MIB)
    name = world.run("sh", "-c", f"head -c {8 * MIB} /dev/zero | tail >/dev/null; sleep 60", resources=limits)
    assert _read(name, "memory.soft_limit_in_bytes", "memory.low") == str(16 * MIB)
    world.monitors[-1].kill(name, "SIGKILL")
    assert world.stopped(name)["oom_killed"] is False


@machine.needs_cgroup_v1
def test_oom_kill_disable(world: test_monitor.World) -> None:
    """The process waits for memory instead of being killed, and can still be ended."""
    monitor = world.monitor()
    limits = resources.Resources(memory=16 * MIB, memory_swap=16 * MIB, oom_kill_disable=True)
    name = world.run("sh", "-c", GROW, resources=limits)
    polling.eventually(lambda: "under_oom 1" in _read(name, "memory.oom_control"))
    assert world.state(name)["status"] == "running"
    monitor.kill(name, "SIGKILL")
    state = world.stopped(name)
    assert (state["exit_code"], state["oom_killed"]) == (137, False)


def test_oom_score_adj(world: test_monitor.World) -> None:
    world.monitor()
    name = world.run("cat", "/proc/self/oom_score_adj", oom_score_adj=321)
    world.stopped(name)
    assert world.lines(name) == [b"321"]


def test_fork_bomb(world: test_monitor.World) -> None:
    """It fills its own limit and nothing else: the machine, the monitor and an exec for another container go on."""
    _skip_without("pids")
    monitor = world.monitor()
    bomb = "bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done"
    name = world.run("sh", "-c", bomb, resources=resources.Resources(pids=40))
    polling.eventually(lambda: _pairs(_read(name, "pids.events")).get("max", 0) > 20, 30)
    assert int(_read(name, "pids.current")) <= 40
    other = world.run("sh", "-c", "for n in 1 2 3; do true & done; wait; exit 6")
    assert world.stopped(other)["exit_code"] == 6
    monitor.delete(name, force=True)
    assert cgroup.folders(_path(name)) == []


def test_fork_bomb_with_the_machines_process_numbers(world: test_monitor.World) -> None:
    """Without a pid namespace nothing ends the others when the first one does: the cgroup must."""
    _skip_without("pids")
    monitor = world.monitor()
    bomb = "bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done"
    name = world.run("sh", "-c", bomb, resources=resources.Resources(pids=40), pid="host")
    polling.eventually(lambda: _pairs(_read(name, "pids.events")).get("max", 0) > 20, 30)
    monitor.delete(name, force=True)
    assert cgroup.folders(_path(name)) == []


def test_cpu_quota(world: test_monitor.World) -> None:
    """Two that want a whole processor each get a tenth of one together."""
    _skip_without("cpu")
    world.monitor()
    name = world.run("sh", "-c", f"({BURN}) & {BURN}", resources=resources.Resources(nano_cpus=100_000_000))
    polling.eventually(lambda: _pairs(_read(name, "cpu.stat"))["nr_throttled"] >= 2, 30)
    begun, before = time.monotonic(), _cpu_seconds(name)
    time.sleep(0.7)
    # Two whole ones were wanted. Each processor may overdraw by a slice, and by more where it is an emulated one.
    assert _cpu_seconds(name) - before <= 0.5 * (time.monotonic() - begun)


def test_cpu_shares(world: test_monitor.World) -> None:
    """On one processor, who has eight times the shares gets much more of it."""
    _skip_without("cpu", "cpuset")
    world.monitor()
    small, large = (
        world.run("sh", "-c", BURN, resources=resources.Resources(cpu_shares=shares, cpuset_cpus="0"))
        for shares in (256, 2048)
    )
    before = _cpu_seconds(small), _cpu_seconds(large)
    polling.eventually(lambda: _cpu_seconds(large) + _cpu_seconds(small) - sum(before) > 0.6, 30)
    assert _cpu_seconds(large) - before[1] > 3 * (_cpu_seconds(small) - before[0])


def test_cpuset(world: test_monitor.World) -> None:
    _skip_without("cpuset")
    last = str(max(os.sched_getaffinity(0)))
    world.monitor()
    name = world.run("cat", "/proc/self/status", resources=resources.Resources(cpuset_cpus=last))
    world.stopped(name)
    assert b"Cpus_allowed_list:\t" + last.encode() in world.lines(name)


@pytest.fixture
def device(tmp_path: pathlib.Path) -> Iterator[tuple[str, int]]:
    """A block device: its path and number."""
    backing = tmp_path / "disk"
    with open(backing, "wb") as file:
        file.truncate(8 * MIB)
    done = subprocess.run(["losetup", "-f", "--show", backing], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"needs hardware: no loop device ({done.stderr.strip()})")
    path = done.stdout.strip()
    yield path, os.stat(path).st_rdev
    subprocess.run(["losetup", "-d", path], check=True)


def test_block_io(world: test_monitor.World, device: tuple[str, int]) -> None:
    _skip_without("io")
    path, number = device
    world.monitor()
    throttle: dict[str, Any] = {"major": os.major(number), "minor": os.minor(number), "rate": MIB}
    limits = resources.Resources(block_io={"throttleWriteBpsDevice": [throttle]})
    node = test_monitor.bundle.Device(source=path, target="/dev/disk", permissions="rw")
    name = world.run(
        "dd", "if=/dev/zero", "of=/dev/disk", "bs=256k", "count=8", "oflag=direct", resources=limits, devices=(node,)
    )
    begun = time.monotonic()
    assert world.stopped(name)["exit_code"] == 0, world.lines(name)
    # Two MiB at one a second; the first slice may come for nothing.
    assert time.monotonic() - begun > 1.2


def test_shared_memory_and_open_files(world: test_monitor.World) -> None:
    world.monitor()
    fill = "head -c 4m /dev/zero >/dev/shm/x; stat -c %s /dev/shm/x; ulimit -n"
    name = world.run("sh", "-c", f"{fill}; exec 19</bin/sh; echo 19; exec 20</bin/sh", shm_size=MIB, rlimits=LIMITS)
    state = world.stopped(name)
    assert [line for line in world.lines(name) if line.isdigit()] == [b"1048576", b"20", b"19"]
    assert state["exit_code"] != 0


def test_cgroups_of_the_containers_own(world: test_monitor.World) -> None:
    """What a container makes in its cgroup goes with it, with the processes in there."""
    _skip_without("pids")
    monitor = world.monitor()
    here = "/sys/fs/cgroup" if machine.cgroup_version() == 2 else "/sys/fs/cgroup/pids"
    nest = f"mkdir -p {here}/a/b && sh -c 'echo 0 >{here}/a/b/cgroup.procs; sleep 99 & sleep 99' & sleep 99"
    name = world.run("sh", "-c", nest, privileged=True)

    def processes() -> list[str]:
        below = [pathlib.Path(folder, "a/b/cgroup.procs") for folder in cgroup.folders(_path(name))]
        return [pid for file in below if file.exists() for pid in file.read_text().split()]

    polling.eventually(lambda: len(processes()) == 2)
    monitor.delete(name, force=True)
    assert cgroup.folders(_path(name)) == []
