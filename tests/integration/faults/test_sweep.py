"""Every system call that makes, starts, enters, ends or removes a container may fail, or be the last of its caller.

After each of them: the answer is one clear message, the next command succeeds, and nothing is left behind. A dozen
faults for each operation by default; all of them, some ten minutes, with `./dev test --sweep tests/integration/faults`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from devenv import errors
from devenv.runtime import cgroup, logs, monitor_client, state
from devenv.util import identity
from tests.integration.runtime import test_monitor
from tests.support import faults, leaks, machine
from tests.support.polling import eventually

pytestmark = [pytest.mark.root, machine.needs_binary("busybox"), machine.needs_binary("strace")]

PATIENCE = 30.0
SAMPLE = 12  # faults of each operation when not all are tried
PROGRAM = ("sh", "-c", "echo begun; trap 'exit 5' TERM; while :; do sleep 0.05; done")
# A traced process takes its faults also on what it does besides, such as answering; a reply that is lost, or a
# container that is killed in the midst of its creation, is no bug. These are.
UNCLEAR = ("Traceback", "Error:", "errno", "Errno")
# Python's own, of a pipe that for once is full: strace's doing, no disk and no kernel does that.
_HARMLESS = "Exception ignored when trying to write to the signal wakeup fd:\nTraceback"


class Bench:
    """A monitor that is asked to do things while something goes wrong in it."""

    def __init__(self, world: test_monitor.World) -> None:
        self.world = world
        self.monitor = world.monitor()
        self.name = ""
        self.warm_up()
        self.descriptors = self._descriptors()
        self.mounts = leaks.Picture.take(str(world.where.run)).mounts

    def warm_up(self) -> None:
        """Once through everything, so that what is cached on first use is."""
        for operation, perform in OPERATIONS.items():
            self.prepare(operation)
            perform(self)
            self.clear_away()

    # -- the operations --

    def prepare(self, operation: str) -> None:
        self.name = self.world.container(*PROGRAM)
        if operation == "create":
            return
        self.monitor.create(self.name)
        if operation == "start":
            return
        self.monitor.start(self.name)
        eventually(lambda: self.lines() == [b"begun"])
        if operation == "delete":
            self.monitor.kill(self.name, "SIGKILL")
            self.world.stopped(self.name)

    def create(self) -> None:
        self.monitor.call("create", id=self.name, timeout=PATIENCE)

    def start(self) -> None:
        self.monitor.call("start", id=self.name, timeout=PATIENCE)

    def exec(self) -> None:
        null = os.open("/dev/null", os.O_RDWR)
        process = {"args": ["true"], "env": ["PATH=/bin"], "cwd": "/"}
        try:
            reply = self.monitor.call("exec", (null, null, null), timeout=PATIENCE, id=self.name, process=process)
            number, end = reply["exec"], time.monotonic() + PATIENCE
            while time.monotonic() < end:
                for event in self.monitor.wait(0.5):
                    if event["event"] == "lost":
                        return
                    if event["event"] == "exec_exit" and event["exec"] == number:
                        assert event["exit_code"] in {0, 137, 127, None}, event
                        return
            raise AssertionError("the end of the exec was not told")
        finally:
            os.close(null)

    def stop(self) -> None:
        self.monitor.call("kill", id=self.name, signal="SIGTERM", timeout=PATIENCE)
        eventually(lambda: self.state().status == "stopped", PATIENCE)

    def delete(self) -> None:
        self.monitor.call("delete", id=self.name, timeout=PATIENCE)

    # -- what is true afterwards --

    def state(self) -> state.State:
        found = state.load(self.world.where.container(self.name))
        return found if found is not None else state.State(self.name, "none")

    def lines(self) -> list[bytes]:
        return [line.data for line in logs.read(self.world.where.container(self.name))]

    def _descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.world.monitor_pid}/fd"))

    def try_with(self, operation: str, fault: faults.Fault) -> None:
        self.prepare(operation)
        pid = self.world.monitor_pid
        before = self.state().pid
        said = ""
        with faults.inject(pid, fault):
            try:
                OPERATIONS[operation](self)
            except (errors.ContainerError, errors.HostError) as exc:
                said = f"{exc.code}: {exc.message}"
        assert not any(word in said for word in UNCLEAR), f"unclear: {said}"
        self.check(operation, fault, before)
        self.clear_away()
        self.check_nothing_left()

    def check(self, operation: str, fault: faults.Fault, before: int | None) -> None:
        """The monitor answers, or the next one takes over; what is said of the container is true."""
        found = self.monitor
        try:
            found.call("list", timeout=PATIENCE)
        except monitor_client.MonitorLost:
            escrow = found.take_escrow()
            found.close()
            self.monitor = self.world.monitor(escrow=escrow)
        self.monitor.poll()  # one that doesn't listen is sent its escrow late, from descriptors that wait
        told = self.monitor.containers().get(self.name)
        seen = self.state()
        if seen.status == "stopped" and told is not None:
            eventually(lambda: self.monitor.containers()[self.name]["status"] == "stopped", PATIENCE)
            assert seen.exit_code in {None, 5, 126, 127, 137}, seen
            assert seen.exit_code != 5 or operation == "stop", seen
        if operation == "exec" and fault.what != faults.KILL:
            assert (seen.status, seen.pid) == ("running", before)

    def clear_away(self) -> None:
        self.monitor.delete(self.name, force=True)
        left = sorted(os.listdir(self.world.where.container(self.name)))
        strays = [name for name in left if ".tmp." in name]
        shutil.rmtree(self.world.where.container(self.name))
        assert not strays, f"left in the container's folder: {strays}"

    def check_nothing_left(self) -> None:
        # The next command: another container's whole life.
        self.prepare("stop")
        self.monitor.kill(self.name, "SIGKILL")
        assert self.world.stopped(self.name)["exit_code"] == 137
        self.clear_away()
        where = self.world.where
        assert os.listdir(f"{where.run}/containers") == []
        assert self.monitor.containers() == {}
        try:
            eventually(lambda: self._descriptors() <= self.descriptors, 3)
        except AssertionError:
            folder = f"/proc/{self.world.monitor_pid}/fd"
            held = sorted(os.readlink(f"{folder}/{name}") for name in os.listdir(folder))
            raise AssertionError(f"{len(held)} descriptors where {self.descriptors} were: {held}") from None
        for name in self.world.ids[-2:]:
            assert cgroup.folders(f"devenv/{test_monitor.PROJECT}/{name}") == []
        picture = leaks.Picture.take(os.path.dirname(where.run))
        assert picture.mounts <= self.mounts
        others = [text for pid, text in picture.processes.items() if pid not in {self.world.monitor_pid, os.getpid()}]
        assert not others, f"processes: {others}"
        log = pathlib.Path(where.project_run(test_monitor.PROJECT), "monitor.log")
        assert "Traceback" not in log.read_text().replace(_HARMLESS, ""), log.read_text()


OPERATIONS: dict[str, Callable[[Bench], None]] = {
    "create": Bench.create,
    "start": Bench.start,
    "exec": Bench.exec,
    "stop": Bench.stop,
    "delete": Bench.delete,
}


@pytest.fixture
def bench(tmp_path: pathlib.Path, no_leaks: set[str]) -> Iterator[Bench]:
    world = test_monitor.World(tmp_path)
    made = Bench(world)
    yield made
    for monitor in world.monitors:
        monitor.close()
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError, monitor_client.MonitorLost):
        monitor = monitor_client.connect(f"{world.where.project_run(test_monitor.PROJECT)}/monitor.sock")
        for name in monitor.containers():
            monitor.delete(name, force=True)
        monitor.shutdown()
        monitor.close()
        eventually(lambda: identity.process_start_time(int(monitor.hello["pid"])) is None)
    no_leaks.update(world.ids)


def all_faults(bench: Bench, operation: str, folder: pathlib.Path) -> list[faults.Fault]:
    """What the operation does when all is well is what can go wrong in it."""
    bench.prepare(operation)
    output = str(folder / "trace")
    with faults.trace(bench.world.monitor_pid, "-e", f"trace={','.join(faults.SYSCALLS)}", output=output):
        OPERATIONS[operation](bench)
    bench.clear_away()
    counted = faults.count(pathlib.Path(output).read_text())
    return [
        faults.Fault(name, number, what)
        for name in sorted(counted)
        for number in range(1, counted[name] + 1)
        for what in (faults.SYSCALLS[name], faults.KILL)
    ]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_sweep(bench: Bench, operation: str, tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> None:
    every = all_faults(bench, operation, tmp_path)
    chosen = every
    if not request.config.getoption("--sweep"):
        chosen = random.Random(operation).sample(every, min(SAMPLE, len(every)))
    wrong: list[str] = []
    for fault in chosen:
        try:
            bench.try_with(operation, fault)
        except (AssertionError, errors.DevenvError, OSError) as exc:
            wrong.append(f"{fault}: {type(exc).__name__}: {str(exc)[:1500]}")
            bench.world.kill_monitor()
            bench.monitor.close()
            bench.monitor = bench.world.monitor()
            for name in bench.monitor.containers():
                bench.monitor.delete(name, force=True)
                shutil.rmtree(bench.world.where.container(name), ignore_errors=True)
            pathlib.Path(bench.world.where.project_run(test_monitor.PROJECT), "monitor.log").write_text("")
    assert not wrong, f"{len(wrong)} of {len(chosen)} faults in `{operation}`:\n" + "\n".join(wrong)
