"""The monitor with real containers: namespaces, overlay, cgroup. What needs none of these is in test_monitor_plain."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devenv import errors
from devenv.runtime import bundle, cgroup, logs, monitor_client, protocol, resources
from devenv.util import fs, identity, paths
from tests.support import machine, polling

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]

PROJECT = "shop-12345678"


class World:
    def __init__(self, folder: pathlib.Path) -> None:
        self.where = paths.Paths(str(folder / "data"), str(folder / "run"))
        self.image = folder / "image"
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
            (self.image / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", self.image / "bin" / "busybox")
        for name in (
            "mkdir",
            "sh",
            "seq",
            "sleep",
            "echo",
            "cat",
            "true",
            "yes",
            "head",
            "id",
            "ps",
            "dd",
            "kill",
            "tail",
        ):
            (self.image / "bin" / name).symlink_to("busybox")
        (self.image / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (self.image / "etc" / "group").write_text("root:x:0:\n")
        self.monitors: list[monitor_client.Monitor] = []
        self.ids: list[str] = []

    def monitor(self, **options: Any) -> monitor_client.Monitor:
        found = monitor_client.ensure(self.where, PROJECT, **options)
        self.monitors.append(found)
        return found

    @property
    def monitor_pid(self) -> int:
        return int(self.monitors[-1].hello["pid"])

    def kill_monitor(self) -> None:
        pidfd = os.pidfd_open(self.monitor_pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], 10)
        os.close(pidfd)

    def container(self, *args: str, record: dict[str, Any] | None = None, **options: Any) -> str:
        name = identity.new_container_id()
        self.ids.append(name)
        folder = self.where.container(name)
        for part in ("upper", "work"):
            os.makedirs(f"{folder}/{part}")
        overlay = bundle.Overlay("/", (str(self.image),), f"{folder}/upper", f"{folder}/work")
        made = bundle.build(
            bundle.Options(
                args=args,
                rootfs=bundle.Rootfs(overlays=(overlay,)),
                env=("PATH=/bin",),
                terminal=bool((record or {}).get("tty")),
                cgroup_path=f"devenv/{PROJECT}/{name}",
                **options,
            )
        )
        fs.write_json(f"{folder}/config.json", made)
        fs.write_json(f"{folder}/container.json", {"id": name, "project_id": PROJECT, **(record or {})})
        return name

    def run(self, *args: str, **options: Any) -> str:
        name = self.container(*args, **options)
        self.monitors[-1].create(name)
        self.monitors[-1].start(name)
        return name

    def state(self, name: str) -> dict[str, Any]:
        return fs.read_json(f"{self.where.container(name)}/state.json") or {}

    def stopped(self, name: str) -> dict[str, Any]:
        return polling.eventually(lambda: (s := self.state(name)).get("status") == "stopped" and s)

    def lines(self, name: str) -> list[bytes]:
        return [line.data for line in logs.read(self.where.container(name))]


@pytest.fixture
def world(tmp_path: pathlib.Path, no_leaks: set[str]) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for monitor in made.monitors:
        monitor.close()
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError, monitor_client.MonitorLost):
        monitor = monitor_client.connect(f"{made.where.project_run(PROJECT)}/monitor.sock")
        for name in monitor.containers():
            monitor.delete(name, force=True)
        monitor.shutdown()
        monitor.close()
        polling.eventually(lambda: identity.process_start_time(int(monitor.hello["pid"])) is None)
    no_leaks.update(made.ids)
    log = pathlib.Path(made.where.project_run(PROJECT), "monitor.log")
    assert not log.exists() or "Traceback" not in log.read_text(), log.read_text()


def events_until(monitor: monitor_client.Monitor, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    end = time.monotonic() + 10
    while time.monotonic() < end:
        seen += monitor.wait(1)
        if any(wanted(event) for event in seen):
            return seen
    raise AssertionError(f"not among {seen}")


def test_life(world: World) -> None:
    monitor = world.monitor()
    name = world.run("sh", "-c", "echo out; echo err >&2; echo again >/dev/stderr; exit 3")
    seen = events_until(monitor, lambda event: event["event"] == "exit")
    assert [event["event"] for event in seen] == ["create", "start", "exit"]
    assert seen[-1]["exit_code"] == 3
    assert sorted(world.lines(name)) == [b"again", b"err", b"out"]
    assert cgroup.folders(f"devenv/{PROJECT}/{name}") == []
    monitor.delete(name)
    assert not os.path.exists(world.where.container_run(name))


def test_missing_program_says_so(world: World) -> None:
    monitor = world.monitor()
    name = world.container("no-such-program")
    monitor.create(name)
    with pytest.raises(errors.ContainerError, match="no-such-program"):
        monitor.start(name)
    state = world.stopped(name)
    assert "no-such-program" in state["error"]
    assert state["exit_code"] == 127


def test_kill_one_and_all(world: World) -> None:
    monitor = world.monitor()
    name = world.run("sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done")
    polling.eventually(lambda: world.lines(name) == [b"up"])
    monitor.kill(name, "SIGTERM")
    assert world.stopped(name)["exit_code"] == 4
    name = world.run("sh", "-c", "trap '' TERM; sleep 60 & sleep 60 & while :; do sleep 0.1; done")
    monitor.kill(name, "SIGKILL", everyone=True)
    assert world.stopped(name)["exit_code"] == 137


def test_pause_and_resume_and_kill_of_a_paused_one(world: World) -> None:
    monitor = world.monitor()
    name = world.run("sh", "-c", "while :; do echo x; sleep 0.01; done")
    polling.eventually(lambda: len(world.lines(name)) > 2)
    monitor.pause(name)
    time.sleep(0.1)
    before = len(world.lines(name))
    polling.always(lambda: len(world.lines(name)) == before, 0.2)
    monitor.resume(name)
    polling.eventually(lambda: len(world.lines(name)) > before)
    monitor.pause(name)
    monitor.kill(name)
    assert world.stopped(name)["exit_code"] == 137


def test_exec(world: World) -> None:
    monitor = world.monitor()
    name = world.run("sleep", "60")
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    process = {"args": ["sh", "-c", "echo $$ $A; exit 6"], "env": ["A=b", "PATH=/bin"], "cwd": "/"}
    begun = time.monotonic()
    reply = monitor.exec(name, process, (null, writer, writer))
    assert time.monotonic() - begun < 1
    done = events_until(monitor, lambda event: event["event"] == "exec_exit")[-1]
    assert (done["exec"], done["exit_code"]) == (reply["exec"], 6)
    pid, value = os.read(reader, 100).split()
    assert int(pid) < 100
    assert value == b"b"
    reply = monitor.exec(
        name, {"args": ["sh", "-c", "sleep 61 & sleep 62"], "env": ["PATH=/bin"]}, (null, writer, writer)
    )
    time.sleep(0.1)
    monitor.exec_kill(reply["exec"])
    assert events_until(monitor, lambda event: event["event"] == "exec_exit")[-1]["exit_code"] == 137
    os.close(writer)
    assert select.select([reader], [], [], 5)[0]
    assert os.read(reader, 10) == b""
    os.close(reader)
    os.close(null)
    assert world.state(name)["status"] == "running"


def test_adopted_with_its_exit_code_and_all_its_output(world: World) -> None:
    monitor = world.monitor()
    count = 200_000
    name = world.run("sh", "-c", f"seq 1 {count}; exit 7", record={"logging": {"max-size": "100m"}})
    for _ in range(4):
        time.sleep(0.03)
        escrow = monitor.take_escrow()
        world.kill_monitor()
        monitor = world.monitor(escrow=escrow)
    assert world.stopped(name)["exit_code"] == 7
    polling.eventually(lambda: world.lines(name)[-1:] == [b"%d" % count])
    assert world.lines(name) == [b"%d" % number for number in range(1, count + 1)]


def test_killed_before_start_leaves_nothing(world: World) -> None:
    monitor = world.monitor()
    name = world.container("sleep", "60")
    pid = monitor.create(name)
    world.kill_monitor()
    polling.eventually(lambda: identity.process_start_time(pid) is None)
    world.monitor()
    assert "before it was started" in world.stopped(name)["error"]
    polling.eventually(lambda: cgroup.folders(f"devenv/{PROJECT}/{name}") == [])


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 3, 4, 6, 8, 12])
def test_killed_at_any_moment_of_create(world: World, milliseconds: int) -> None:
    monitor = world.monitor()
    name = world.container("sleep", "60")
    protocol.send(monitor._calls, protocol.encode({"op": "create", "seq": 99, "id": name}))
    time.sleep(milliseconds / 1000)
    world.kill_monitor()
    monitor = world.monitor()
    state = world.state(name)
    assert state.get("status") in {None, "stopped"}
    assert cgroup.pids(f"devenv/{PROJECT}/{name}") == []
    monitor.create(name)
    monitor.start(name)
    assert world.state(name)["status"] == "running"


def test_terminal(world: World) -> None:
    monitor = world.monitor()
    name = world.run("sh", "-c", "while read x; do echo got $x; done", record={"tty": True})
    master = monitor.attach(name).fds[0]
    monitor.resize(name, rows=33, cols=99)
    assert tuple(os.get_terminal_size(master)) == (99, 33)
    os.write(master, b"one\n")
    polling.eventually(lambda: b"got one\r" in world.lines(name))
    os.close(master)


def test_init_leaves_the_terminal_to_its_service(world: World) -> None:
    """Who reads a terminal from the background is stopped (SIGTTIN)."""
    monitor = world.monitor()
    name = world.run("sh", "-c", "read x; echo got $x; exit 3", record={"tty": True}, init=True)
    master = monitor.attach(name).fds[0]
    os.write(master, b"one\n")
    assert world.stopped(name)["exit_code"] == 3
    assert b"got one\r" in world.lines(name)
    os.close(master)


def test_init_keeps_no_right_but_that_to_send_signals(world: World) -> None:
    world.monitor()
    name = world.run("sh", "-c", "cat /proc/1/status; sleep 1000", init=True)
    polling.eventually(lambda: any(line.startswith(b"Cpus_allowed") for line in world.lines(name)))
    held = dict(line.split(b":", 1) for line in world.lines(name) if b":" in line)
    assert held[b"CapEff"].strip() == held[b"CapPrm"].strip() == b"%016x" % (1 << 5)


def test_init_dies_with_a_monitor_that_has_not_started_it_and_not_later(world: World) -> None:
    monitor = world.monitor()
    waiting = world.container("sleep", "60", init=True)
    pid = monitor.create(waiting)
    running = world.run("sleep", "60", init=True)
    world.kill_monitor()
    polling.eventually(lambda: identity.process_start_time(pid) is None)
    monitor = world.monitor()
    assert world.state(running)["status"] == "running"
    monitor.kill(running, "SIGTERM")
    assert world.stopped(running)["exit_code"] == 143
    assert "before it was started" in world.stopped(waiting)["error"]


def test_out_of_memory_is_recorded(world: World) -> None:
    if cgroup.limits_available()["memory"]:
        pytest.skip("needs cgroup v2 or v1 with the memory controller")
    monitor = world.monitor()
    name = world.run("sh", "-c", "tail /dev/zero", resources=resources.Resources(memory=16 << 20, memory_swap=16 << 20))
    seen = events_until(monitor, lambda event: event["event"] == "exit")
    assert seen[-1]["exit_code"] == 137
    assert seen[-1]["oom_killed"]
    assert world.state(name)["oom_killed"]
    assert "oom" in [event["event"] for event in seen]


def test_flood_with_bounded_memory(world: World) -> None:
    monitor = world.monitor()
    limits = {"logging": {"max-size": "1m", "max-file": "2"}}
    name = world.run("sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c 40000000", record=limits)
    events_until(monitor, lambda event: event["event"] == "exit")
    assert world.state(name)["exit_code"] == 0
    folder = pathlib.Path(world.where.container(name), "logs")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2 << 20
    status = pathlib.Path(f"/proc/{world.monitor_pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 40_000


def test_nothing_accumulates(world: World) -> None:
    monitor = world.monitor()

    def cycle() -> None:
        name = world.run("sh", "-c", "echo hi")
        world.stopped(name)
        monitor.delete(name)
        shutil.rmtree(world.where.container(name))
        monitor.poll()

    def count() -> int:
        return len(os.listdir(f"/proc/{world.monitor_pid}/fd"))

    cycle()
    polling.eventually(lambda: monitor.containers() == {})
    before = count()
    for _ in range(20):
        cycle()
    polling.eventually(lambda: count() <= before)
    assert os.listdir(f"{world.where.run}/containers") == []
