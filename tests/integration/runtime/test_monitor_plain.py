"""The monitor with plain processes for containers: what it promises about itself, on any machine."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from devenv import errors
from devenv.runtime import logs, monitor_client, protocol
from devenv.util import fs, identity, paths, sockets
from tests.support import polling

PROJECT = "shop-12345678"


class World:
    """A project with its monitor."""

    def __init__(self, where: paths.Paths) -> None:
        self.where = where
        self.monitors: list[monitor_client.Monitor] = []

    def monitor(self, *, respawn: list[str] | None = None, **options: object) -> monitor_client.Monitor:
        found = monitor_client.ensure(self.where, PROJECT, respawn, **options)  # type: ignore[arg-type]
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

    def container(self, name: str, *args: str, **record: object) -> str:
        folder = self.where.container(name)
        os.makedirs(folder)
        fs.write_json(f"{folder}/container.json", {"id": name, "project_id": PROJECT, **record})
        fs.write_json(f"{folder}/config.json", {"process": {"args": list(args)}})
        return name

    def state(self, name: str) -> dict:
        return fs.read_json(f"{self.where.container(name)}/state.json") or {}

    def stopped(self, name: str, timeout: float = 10.0) -> dict:
        return polling.eventually(lambda: (s := self.state(name)).get("status") == "stopped" and s, timeout)

    def lines(self, name: str) -> list[bytes]:
        return [line.data for line in logs.read(self.where.container(name))]


@pytest.fixture
def world(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(
        monitor_client,
        "_PROGRAM",
        "import sys; sys.path.insert(0, {root!r}); from tests.support import plain_backend as p; "
        "from devenv.runtime import monitor_main as m; m.run(sys.argv[1:], p.Plain())",
    )
    made = World(paths.Paths(str(tmp_path / "data"), str(tmp_path / "run")))
    yield made
    for monitor in made.monitors:
        monitor.close()
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError, monitor_client.MonitorLost):
        monitor = monitor_client.connect(f"{made.where.project_run(PROJECT)}/monitor.sock")
        for name in monitor.containers():
            monitor.delete(name, force=True)
        monitor.shutdown()
        monitor.close()
        polling.eventually(lambda: ended(monitor.hello["pid"]))
    log = pathlib.Path(made.where.project_run(PROJECT), "monitor.log")
    assert not log.exists() or "Traceback" not in log.read_text(), log.read_text()


def events_until(monitor: monitor_client.Monitor, wanted: Callable[[dict], bool]) -> list[dict]:
    seen: list[dict] = []
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for event in monitor.wait(1):
            seen.append(event)
        if any(wanted(event) for event in seen):
            return seen
    raise AssertionError(f"not among {seen}")


def run(world: World, monitor: monitor_client.Monitor, name: str, *args: str, **record: object) -> None:
    world.container(name, *args, **record)
    monitor.create(name)
    monitor.start(name)


def test_life_of_a_container(world: World) -> None:
    monitor = world.monitor()
    world.container("one", "sh", "-c", "echo out; echo err >&2; exit 3")
    pid = monitor.create("one")
    assert world.state("one")["status"] == "created"
    assert world.state("one")["pid"] == pid
    monitor.start("one")
    seen = events_until(monitor, lambda event: event["event"] == "exit")
    assert [event["event"] for event in seen] == ["create", "start", "exit"]
    assert seen[-1]["exit_code"] == 3
    state = world.state("one")
    assert (state["status"], state["exit_code"], state["signal"], state["oom_killed"]) == ("stopped", 3, None, False)
    assert sorted(world.lines("one")) == [b"err", b"out"]
    monitor.delete("one")
    assert not os.path.exists(world.where.container_run("one"))


def test_signal_is_128_and_its_number(world: World) -> None:
    monitor = world.monitor()
    run(world, monitor, "one", "sleep", "60")
    monitor.kill("one", "SIGTERM")
    state = world.stopped("one")
    assert (state["exit_code"], state["signal"]) == (143, 15)


def test_errors_are_told(world: World) -> None:
    monitor = world.monitor()
    with pytest.raises(errors.ContainerError, match="no container"):
        monitor.start("nobody")
    with pytest.raises(errors.ContainerError, match="no container id"):
        monitor.create("../../etc")
    with pytest.raises(errors.ContainerError, match="no operation"):
        monitor.call("dance")
    world.container("one", "fail")
    with pytest.raises(errors.ContainerError, match="made to fail"):
        monitor.create("one")
    assert world.state("one")["error"] == "made to fail"
    run(world, monitor, "two", "sleep", "60")
    with pytest.raises(errors.ContainerError, match="running"):
        monitor.delete("two")
    with pytest.raises(errors.ContainerError, match="still there"):
        monitor.shutdown()


def test_restart_keeps_the_log_and_counts(world: World) -> None:
    monitor = world.monitor()
    run(world, monitor, "one", "printf", "no end")
    world.stopped("one")
    monitor.create("one", restarts=1)
    monitor.start("one")
    polling.eventually(lambda: world.lines("one") == [b"no end", b"no end"])
    assert world.stopped("one")["restarts"] == 1


def test_killed_monitor_loses_nothing(world: World) -> None:
    """The container prints all the while; every line is there once and in order, and so is its exit code."""
    monitor = world.monitor()
    count = 300_000
    run(world, monitor, "one", "sh", "-c", f"seq 1 {count}; exit 7", logging={"max-size": "100m"})
    for _ in range(8):
        time.sleep(0.03)
        escrow = monitor.take_escrow()
        world.kill_monitor()
        monitor = world.monitor(escrow=escrow)
    assert world.stopped("one")["exit_code"] == 7
    polling.eventually(lambda: world.lines("one")[-1:] == [b"%d" % count])
    assert world.lines("one") == [b"%d" % number for number in range(1, count + 1)]


def test_container_that_ends_without_a_monitor(world: World) -> None:
    monitor = world.monitor()
    run(world, monitor, "one", "sh", "-c", "read x; echo last words; exit 9", stdin_open=True)
    escrow = monitor.take_escrow()
    assert sorted(escrow["one"]) == ["pidfd", "stderr", "stdout"]
    stdin = monitor.attach("one")["stdin"]
    world.kill_monitor()
    with open(stdin, "w") as file:
        file.write("\n")
    select.select([escrow["one"]["pidfd"]], [], [], 10)
    monitor = world.monitor(escrow=escrow)
    state = world.stopped("one")
    assert state["exit_code"] in {9, None}  # None before Linux 6.15, or as long as PID 1 has not reaped it
    assert world.lines("one") == [b"last words"]


def test_no_exit_code_is_invented(world: World) -> None:
    monitor = world.monitor()
    run(world, monitor, "one", "sleep", "60")
    pid = world.state("one")["pid"]
    monitor.close()
    world.kill_monitor()
    os.kill(pid, signal.SIGKILL)
    polling.eventually(lambda: ended(pid))
    world.monitor()
    assert world.stopped("one")["exit_code"] in {None, 137}


def ended(pid: int) -> bool:
    """Gone, or a zombie, which PID 1 may leave for seconds."""
    return identity.process_start_time(pid) is None


def test_adopted_container_is_controlled_and_its_exit_known(world: World) -> None:
    monitor = world.monitor()
    run(world, monitor, "one", "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
    polling.eventually(lambda: world.lines("one") == [b"up"])
    world.kill_monitor()
    monitor = world.monitor()
    assert monitor.containers()["one"]["status"] == "running"
    monitor.kill("one", "SIGTERM")
    seen = events_until(monitor, lambda event: event["event"] == "exit")
    assert seen[-1]["exit_code"] == 5


def test_created_but_not_started_dies_with_its_monitor(world: World) -> None:
    monitor = world.monitor()
    world.container("one", "sleep", "60")
    pid = monitor.create("one")
    world.kill_monitor()
    polling.eventually(lambda: ended(pid))
    world.monitor()
    state = world.stopped("one")
    assert state["exit_code"] is None or state["exit_code"] == 137
    assert "before it was started" in state["error"] or state["exit_code"] == 137


def test_killed_while_it_creates(world: World) -> None:
    monitor = world.monitor()
    world.container("one", "slow")
    sock = monitor._calls
    protocol.send(sock, protocol.encode({"op": "create", "seq": 99, "id": "one"}))
    polling.eventually(lambda: world.state("one").get("status") == "creating")
    world.kill_monitor()
    with pytest.raises(monitor_client.MonitorLost):
        monitor.call("list")
    world.monitor()
    assert "before it was started" in world.stopped("one")["error"]


def test_hanging_setup_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        monitor_client, "_PROGRAM", monitor_client._PROGRAM.replace("m.run(", "m.monitor.CREATE_SECONDS = 0.2; m.run(")
    )
    monitor = world.monitor()
    world.container("one", "hang")
    with pytest.raises(errors.ContainerError, match="given up"):
        monitor.create("one")
    run(world, monitor, "two", "true")
    assert world.stopped("two")["exit_code"] == 0


def test_one_monitor_however_many_ask(world: World) -> None:
    pids = []
    for _ in range(6):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            monitor = monitor_client.ensure(world.where, PROJECT)
            os.write(writer, f"{monitor.hello['pid']}\n".encode())
            os._exit(0)
        os.close(writer)
        pids.append((child, reader))
    found = set()
    for child, reader in pids:
        os.waitpid(child, 0)
        found.add(os.read(reader, 100))
        os.close(reader)
    assert len(found) == 1


def test_silent_client_stops_nobody(world: World) -> None:
    """It subscribes and never reads, while more events come than are queued for anybody; then it is cut off."""
    monitor = world.monitor()
    silent = sockets.connect(f"{world.where.project_run(PROJECT)}/monitor.sock", kind=protocol.KIND)
    protocol.send(silent, protocol.encode({"op": "subscribe", "seq": 1}))
    run(world, monitor, "one", "sleep", "60")
    rounds = 2300
    for _ in range(rounds):
        monitor.pause("one")
        monitor.resume("one")
    monitor.poll()
    silent.settimeout(30)
    received = 0
    while protocol.receive(silent) is not None:
        received += 1
    assert 0 < received < 2 * rounds
    silent.close()
    monitor.delete("one", force=True)


def test_bad_messages_cost_only_their_sender(world: World) -> None:
    monitor = world.monitor()
    where = f"{world.where.project_run(PROJECT)}/monitor.sock"
    for bad in (b"{", b"[]", b"\xff\xfe", b"[" * 100_000, json.dumps({"op": ["list"]}).encode(), b"x" * 131_073):
        client = sockets.connect(where, kind=protocol.KIND)
        client.settimeout(5)
        client.send(bad)
        packet = protocol.receive(client)
        assert packet is not None
        assert "error" in packet.message
        client.close()
    assert monitor.containers() == {}


def test_flood_keeps_memory_and_disk_bounded(world: World) -> None:
    monitor = world.monitor()
    limits = {"max-size": "200k", "max-file": "2"}
    run(world, monitor, "one", "sh", "-c", "yes | head -c 50000000", logging=limits)
    # 25 million lines; how fast they go through is for the benchmark to say.
    assert world.stopped("one", timeout=60)["exit_code"] == 0
    folder = pathlib.Path(world.where.container("one"), "logs")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 400 * 1024
    status = pathlib.Path(f"/proc/{world.monitor_pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 40_000, f"{peak} KiB"


def test_exec_and_its_kill(world: World) -> None:
    monitor = world.monitor()
    run(world, monitor, "one", "sleep", "60")
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    reply = monitor.exec("one", {"args": ["sh", "-c", "echo hello; exit 4"]}, (null, writer, writer))
    done = events_until(monitor, lambda event: event["event"] == "exec_exit")[-1]
    assert (done["exec"], done["exit_code"]) == (reply["exec"], 4)
    assert os.read(reader, 100) == b"hello\n"
    # With a child in another session, which a kill of the process group would miss.
    script = "setsid sleep 61 & setsid sleep 62 & exec sleep 63"
    reply = monitor.exec("one", {"args": ["sh", "-c", script]}, (null, writer, writer))
    time.sleep(0.2)
    monitor.exec_kill(reply["exec"])
    done = events_until(monitor, lambda event: event["event"] == "exec_exit")[-1]
    assert done["exit_code"] == 137
    os.close(writer)
    assert select.select([reader], [], [], 5)[0]  # nobody has the other end any more
    assert os.read(reader, 100) == b""
    os.close(reader)
    os.close(null)


def test_bound_exec_ends_with_its_client(world: World) -> None:
    monitor = world.monitor()
    run(world, monitor, "one", "sleep", "60")
    null = os.open("/dev/null", os.O_RDWR)
    second = monitor_client.connect(f"{world.where.project_run(PROJECT)}/monitor.sock")
    pid = second.exec("one", {"args": ["sleep", "64"]}, (null, null, null), bound=True)["pid"]
    second.close()
    polling.eventually(lambda: ended(pid))
    os.close(null)


def test_attach_gets_a_copy_and_stdin_ends_with_its_writer(world: World) -> None:
    monitor = world.monitor()
    world.container("one", "cat", stdin_open=True, oneoff=True)
    monitor.create("one")
    reader, writer = os.pipe()
    reply = monitor.attach("one", (writer,))
    os.close(writer)
    assert reply["stdin_writer"]
    (stdin,) = reply.fds
    monitor.start("one")
    os.write(stdin, b"to and fro\n")
    assert os.read(reader, 100) == b"to and fro\n"
    os.close(stdin)
    assert os.read(reader, 100) == b""
    os.close(reader)
    assert world.stopped("one")["exit_code"] == 0
    assert world.lines("one") == [b"to and fro"]


def test_reader_that_stops_makes_only_its_container_wait(world: World) -> None:
    monitor = world.monitor()
    reader, writer = os.pipe()
    world.container("one", "sh", "-c", "yes | head -c 3000000; echo end")
    monitor.create("one")
    monitor.attach("one", (writer,))
    os.close(writer)
    monitor.start("one")
    run(world, monitor, "two", "echo", "hi")
    world.stopped("two")
    assert world.state("one")["status"] == "running"
    total = b""
    while data := os.read(reader, 1 << 20):
        total += data
    os.close(reader)
    assert len(total) == 3_000_004
    assert world.stopped("one")["exit_code"] == 0


def test_terminal_survives_the_monitor(world: World) -> None:
    monitor = world.monitor()
    run(world, monitor, "one", "sh", "-c", "while read x; do echo got $x; done", tty=True)
    master = monitor.attach("one").fds[0]
    os.write(master, b"one\n")
    polling.eventually(lambda: b"got one\r" in world.lines("one"))
    os.close(master)
    escrow = monitor.take_escrow()
    assert sorted(escrow["one"]) == ["pidfd", "terminal"]
    world.kill_monitor()
    monitor = world.monitor(escrow=escrow)
    monitor.resize("one", rows=33, cols=99)
    master = monitor.attach("one").fds[0]
    assert tuple(os.get_terminal_size(master)) == (99, 33)
    os.write(master, b"two\n")
    polling.eventually(lambda: b"got two\r" in world.lines("one"))
    os.close(master)


def test_supervisor_is_brought_back(world: World, tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "respawned"
    monitor = world.monitor(respawn=["/bin/sh", "-c", f"echo x >>{mark}"])
    run(world, monitor, "one", "sleep", "60")
    monitor.close()
    polling.eventually(lambda: mark.exists() and mark.read_text().count("x") >= 2)
    monitor = world.monitor(role="supervisor")
    monitor.bye()
    monitor.close()
    count = mark.read_text().count("x")
    polling.always(lambda: mark.read_text().count("x") == count, 0.5)
    watcher = monitor_client.connect(f"{world.where.project_run(PROJECT)}/monitor.sock")
    watcher.delete("one", force=True)
    watcher.close()


def test_goes_by_itself_and_leaves_nothing(world: World) -> None:
    monitor = world.monitor(idle_seconds=0.2)
    run(world, monitor, "one", "true")
    world.stopped("one")
    monitor.delete("one")
    pid = world.monitor_pid
    monitor.close()
    polling.eventually(lambda: ended(pid))
    assert os.listdir(f"{world.where.run}/containers") == []
    assert not os.path.exists(f"{world.where.project_run(PROJECT)}/monitor.sock")


def test_descriptors_are_level(world: World) -> None:
    monitor = world.monitor()

    def cycle(name: str) -> None:
        run(world, monitor, name, "sh", "-c", "echo hi")
        null = os.open("/dev/null", os.O_RDWR)
        with contextlib.suppress(errors.ContainerError):
            monitor.exec(name, {"args": ["true"]}, (null, null, null))
        os.close(null)
        world.stopped(name)
        monitor.delete(name)
        monitor.poll()

    def count() -> int:
        return len(os.listdir(f"/proc/{world.monitor_pid}/fd"))

    cycle("first")
    polling.eventually(lambda: monitor.containers() == {})
    before, mine = count(), len(os.listdir("/proc/self/fd"))
    for number in range(30):
        cycle(f"c{number}")
    monitor.poll()
    polling.eventually(lambda: count() <= before, describe=f"{before} descriptors as before")
    assert len(os.listdir("/proc/self/fd")) == mine


def test_foreign_socket_type_is_refused(world: World) -> None:
    world.monitor()
    with pytest.raises(OSError, match="Protocol wrong type"):
        sockets.connect(f"{world.where.project_run(PROJECT)}/monitor.sock", kind=socket.SOCK_STREAM)
