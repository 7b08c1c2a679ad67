"""kill -9 of any of devenv's processes at any moment: containers go on, the next command continues, nothing leaks."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devenv.supervisor import protocol
from devenv.util import sockets
from tests.support import engine, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

SPEC = """
    name: shop
    services:
      counter:
        image: "host:"
        command: [sh, -c, 'i=0; while :; do i=$$((i+1)); echo $$i; sleep 0.01; done']
        stop_signal: SIGKILL
      web:
        image: "host:"
        command: [python3, -m, http.server, "8000"]
        stop_signal: SIGKILL
        ports: ["127.0.0.1::8000"]
        healthcheck: {test: [CMD, "true"], interval: 0.2s}
      phoenix:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        restart: always
        depends_on: {web: {condition: service_healthy}}
      job:
        image: "host:"
        command: [sh, -c, 'read code </shared/go; echo "got $$code"; exit $$code']
        stop_signal: SIGKILL
        volumes: [".:/shared"]
"""
NAMES = ["shop-counter-1", "shop-job-1", "shop-phoenix-1", "shop-web-1"]


class Shop:
    """The project as it is on disk and in /proc, which no command has to be believed for."""

    def __init__(self, devenv: runner.Devenv, project: projects.Project) -> None:
        self.devenv = devenv
        self.project = project
        project.write(SPEC)
        os.mkfifo(project / "go")
        os.chmod(project / "go", 0o666)

    def folders(self) -> dict[str, pathlib.Path]:
        found = {}
        for path in pathlib.Path(self.devenv.data, "containers").glob("[!.]*/container.json"):
            found[str(json.loads(path.read_text())["name"])] = path.parent
        return found

    def state(self, service: str) -> dict[str, Any]:
        folder = self.folders()[f"shop-{service}-1"]
        return dict(json.loads((folder / "state.json").read_text()))

    def pids(self) -> dict[str, int]:
        return {name: self.state(name.split("-")[1])["pid"] for name in self.folders()}

    def count(self) -> int:
        """The counter's last number, once it is known that none is missing, doubled or out of order."""
        text = self.devenv("logs", "--no-log-prefix", "counter").stdout
        numbers = [int(line) for line in text.split()]
        assert numbers == list(range(1, len(numbers) + 1))
        return len(numbers)

    def answers(self) -> bool:
        port = int(self.devenv("port", "web", "8000").stdout.rpartition(":")[2])
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                connection.request("GET", "/")
                return connection.getresponse().status == 200
            finally:
                connection.close()
        return False

    def probed(self) -> str:
        """What the last probe said and when, as it is on disk."""
        return (self.folders()["shop-web-1"] / "health.json").read_text()

    def runs(self) -> dict[str, int]:
        """Every service runs, and `ps` says so: their pids."""
        rows = self.devenv.ps()
        assert sorted(rows) == NAMES
        assert {row["State"] for row in rows.values()} == {"running"}
        pids = self.pids()
        assert all(engine.alive(pid) for pid in pids.values())
        return pids

    def is_gone(self) -> None:
        assert os.listdir(f"{self.devenv.data}/containers") == []
        assert self.devenv.ps() == {}


@pytest.fixture(params=["root", "dvrange"])
def anyone(request: pytest.FixtureRequest, devenv_as: Any) -> runner.Devenv:
    made: runner.Devenv = devenv_as(request.param)
    return made


@pytest.fixture
def shop(anyone: runner.Devenv, project: projects.Project) -> Shop:
    return Shop(anyone, project)


@pytest.fixture
def running(shop: Shop) -> Shop:
    shop.devenv("up", "-d")
    return shop


COMBINATIONS = [
    ("supervisor",),
    ("zygote",),
    ("monitor",),
    ("proxy",),
    ("supervisor", "zygote"),
    ("supervisor", "monitor"),
    ("zygote", "monitor"),
    engine.ROLES,
]
# Rootless differs in its namespaces, which matter when more than one is killed.
ROOTLESS = [("supervisor", "monitor"), engine.ROLES]
CASES = [("root", case) for case in COMBINATIONS] + [("dvrange", case) for case in ROOTLESS]


@pytest.mark.parametrize(
    ("anyone", "victims"), CASES, indirect=["anyone"], ids=[f"{user}-{'+'.join(case)}" for user, case in CASES]
)
def test_steady_state(running: Shop, victims: tuple[str, ...]) -> None:
    devenv = running.devenv
    pids = running.runs()
    counted, probe = running.count(), running.probed()
    before = {role: engine.find(devenv, role) for role in engine.ROLES}
    assert None not in before.values()
    engine.kill(*(before[role] for role in victims))
    if victims == engine.ROLES:
        # Nobody is left who could notice. What only reads starts nobody, and is right all the same.
        assert running.runs() == pids
        devenv("up", "-d")
    for role in victims:
        eventually(lambda role=role: engine.find(devenv, role) not in {None, before[role]}, 5, describe=role)
    # The counter, the port and the health checks go on, and no process is another one.
    eventually(lambda: running.count() > counted + 10)
    eventually(running.answers, 5)
    eventually(lambda: running.probed() != probe, 5)
    assert running.runs() == pids
    assert devenv("exec", "-T", "counter", "echo", "hi").stdout == "hi\n"
    devenv("up", "-d")
    assert running.runs() == pids
    # A policy still acts, an exit code is still seen.
    os.kill(pids["shop-phoenix-1"], 9)
    eventually(lambda: running.state("phoenix")["pid"] not in {None, pids["shop-phoenix-1"]}, 5)
    (running.project / "go").write_text("7\n")
    ended = eventually(lambda: (found := running.state("job"))["status"] == "stopped" and found, 5)
    assert ended["exit_code"] == 7
    assert devenv.ps()["shop-job-1"]["ExitCode"] == 7
    assert "got 7" in devenv("logs", "job").stdout
    devenv("down", "-t", "1")
    running.is_gone()


_SLOW = """
import sys, time
from devenv.supervisor import client
from devenv.util import identity, paths
project, where = identity.project("slow", sys.argv[1]), paths.Paths(*sys.argv[2:])
client.Supervisor.ensure(project, where)
time.sleep(2)
print("found" if client.Supervisor.find(project, where) else "gone")
"""


def test_a_command_that_takes_its_time(devenv: runner.Devenv, project: projects.Project) -> None:
    """A supervisor with nothing to do waits for the command that started it, on however busy a machine."""
    command = [sys.executable, "-c", _SLOW, str(project.path), devenv.data, devenv.run_directory]
    done = subprocess.run(command, capture_output=True, text=True, env=devenv.environment(), timeout=60)
    assert done.stdout == "found\n", done.stderr


@pytest.mark.parametrize("anyone", ["root"], indirect=True)
def test_asked_while_it_starts(running: Shop) -> None:
    """A supervisor that is asked something before it has looked around does not take the project for empty."""
    pids = running.runs()
    before = engine.find(running.devenv, "supervisor")
    others = [pathlib.Path(running.devenv.data, "containers", f"other{number}") for number in range(5000)]
    for folder in others:
        folder.mkdir()  # to look through them takes long enough
    engine.kill(before)
    path = next(pathlib.Path(running.devenv.run_directory).glob("projects/*/supervisor.sock"))
    hello = protocol.encode({"op": "hello", "params": {"version": protocol.VERSION}})
    replies = 0
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        with contextlib.suppress(OSError), sockets.connect(str(path)) as connection:
            connection.sendall(hello)
            replies += b"result" in connection.recv(1000)
    for folder in others:
        folder.rmdir()
    assert replies
    assert engine.find(running.devenv, "supervisor") not in {None, before}
    assert running.runs() == pids


def test_a_container_that_ends_with_its_monitor(running: Shop) -> None:
    """How it ended may be lost with the one who watched it, but is never made up; its policy acts."""
    pids = running.runs()
    job = pids["shop-job-1"]
    engine.kill(engine.find(running.devenv, "monitor"), job, pids["shop-phoenix-1"])
    ended = eventually(lambda: (found := running.state("job"))["status"] == "stopped" and found, 5)
    assert ended["exit_code"] in {137, None}
    row = running.devenv.ps()["shop-job-1"]
    assert (row["State"], row["ExitCode"]) == ("exited", ended["exit_code"] or 255)
    eventually(lambda: running.state("phoenix")["pid"] not in {None, pids["shop-phoenix-1"]}, 5)


def test_a_container_that_ends_while_nobody_watches(running: Shop) -> None:
    job = running.runs()["shop-job-1"]
    engine.kill(*(engine.find(running.devenv, role) for role in engine.ROLES))
    (running.project / "go").write_text("7\n")
    eventually(lambda: not engine.alive(job))
    row = running.devenv.ps()["shop-job-1"]
    assert (row["State"], row["ExitCode"]) == ("exited", 255)
    running.devenv("up", "-d", "--no-deps", "counter")
    eventually(lambda: running.state("job")["status"] == "stopped", 5)
    # Seven as long as whoever inherited it has not reaped it; unknown afterwards, and never a success.
    assert running.state("job")["exit_code"] in {7, None}
    # Its last words were in the pipe, which went with the last who had it open; what came before is there.
    assert running.count() > 0


def test_an_attached_command(running: Shop) -> None:
    """Its end takes nothing along, whichever half of it is killed."""
    pids = running.runs()
    for kill_worker in (False, True):
        with running.devenv.start("up") as command:
            workers = eventually(lambda: engine.workers(running.devenv))
            time.sleep(0.2)
            engine.kill(*(workers if kill_worker else [command.pid]))
            command.communicate(timeout=10)
        eventually(lambda: engine.workers(running.devenv) == [])
    assert running.runs() == pids


# -- while something is being done --

# By what is killed, and how likely. `command` is what was typed; `worker` its other half, forked from the zygote.
VICTIMS = [
    ("command",),
    ("worker",),
    ("supervisor",),
    ("zygote",),
    ("monitor",),
    ("proxy",),
    ("supervisor", "monitor"),
    ("command", "supervisor"),
    ("zygote", "supervisor"),
    ("command", "worker", *engine.ROLES),
]
# DEVENV_TEST_ROUNDS=200 DEVENV_TEST_SEED=7 for a long search.
ROUNDS = int(os.environ.get("DEVENV_TEST_ROUNDS") or "4")
SEED = int(os.environ.get("DEVENV_TEST_SEED") or "0")


def interrupt(shop: Shop, victims: tuple[str, ...], delay: float, *arguments: str) -> None:
    """Run a command, kill the victims in the midst of it. Whatever it says then is one clear message."""
    with shop.devenv.start(*arguments) as command:
        time.sleep(delay)
        pids = [engine.find(shop.devenv, role) for role in victims if role in engine.ROLES]
        if "worker" in victims:
            pids += engine.workers(shop.devenv)
        if "command" in victims:
            pids.append(command.pid)
        engine.kill(*pids)
        said, _ = command.communicate(timeout=30)
    shop.devenv.remember()
    assert "Traceback" not in said, said
    if command.returncode not in {0, -9, 137}:
        assert "error" in said, (command.returncode, said)


def moments(seed: str, longest: float) -> Iterator[tuple[tuple[str, ...], float]]:
    chance = random.Random(f"{seed} {SEED}")
    victims = chance.sample(VICTIMS, k=len(VICTIMS))
    for who in itertools.islice(itertools.cycle(victims), ROUNDS):
        yield who, chance.uniform(0.0, longest)


def who(shop: Shop) -> str:
    return shop.devenv.user.name if shop.devenv.user else "root"


def test_while_it_comes_up(shop: Shop) -> None:
    for number, (victims, delay) in enumerate(moments(f"up {who(shop)}", 0.7)):
        what = f"round {number}: {'+'.join(victims)} killed {delay:.3f} s after `up`"
        try:
            interrupt(shop, victims, delay, "up", "-d")
            shop.devenv("up", "-d")
            shop.runs()
            shop.count()
            eventually(shop.answers, 5)
            shop.devenv("down", "-t", "1")
            shop.is_gone()
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error


def test_while_it_goes_down(shop: Shop) -> None:
    for number, (victims, delay) in enumerate(moments(f"down {who(shop)}", 0.4)):
        what = f"round {number}: {'+'.join(victims)} killed {delay:.3f} s after `down`"
        try:
            shop.devenv("up", "-d")
            interrupt(shop, victims, delay, "down", "-t", "1")
            shop.devenv("down", "-t", "1")
            shop.is_gone()
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error
