"""`devenv stats`: by programs that use what it shows, as everybody, with nothing but the containers running."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devenv.runtime import cgroup
from tests.support import engine, polling, projects, runner, terminal

FIELDS = {"Container", "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"}
PRESSURES = {"CPUPressure", "MemPressure", "IOPressure"}
SPEC = """
    services:
      busy:
        image: "host:"
        command: sh -c 'while :; do :; done'
        stop_signal: SIGKILL
      large:
        image: "host:"
        command: python3 -c 'import time; held = bytearray(40 << 20); time.sleep(600)'
        mem_limit: 256m
        stop_signal: SIGKILL
      done:
        image: "host:"
        command: "true"
    """


def _stats(devenv: runner.Devenv, *arguments: str) -> dict[str, dict[str, Any]]:
    found = devenv("stats", "--no-stream", "--format", "json", *arguments).stdout.splitlines()
    return {row["Name"].split("-")[1]: row for row in map(json.loads, found)}


def _mebibytes(text: str) -> float:
    assert text.endswith("MiB"), text
    return float(text.removesuffix("MiB"))


def test_by_programs_that_use_it(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(SPEC)
    anyone("up", "-d")
    # Neither of the two is needed.
    engine.kill(*(engine.find(anyone, role) for role in engine.ROLES))
    polling.eventually(lambda: _mebibytes(_stats(anyone)["large"]["MemUsage"].split(" / ")[0]) >= 40)
    found = _stats(anyone)
    assert set(found) == {"busy", "large"}
    busy, large = found["busy"], found["large"]
    assert busy.keys() == FIELDS | PRESSURES
    assert float(busy["CPUPerc"].removesuffix("%")) > 5 > float(large["CPUPerc"].removesuffix("%"))
    assert int(busy["PIDs"]) >= 1
    assert busy["ID"] == busy["Container"]
    assert len(busy["ID"]) == 12
    used, limit = large["MemUsage"].split(" / ")
    if anyone.user is None and not cgroup.limits_available()["memory"]:
        assert limit == "256MiB"
        assert 15 < float(large["MemPerc"].removesuffix("%")) < 40
    assert _mebibytes(used) < 100
    assert (cgroup.place().version == 2 and anyone.user is None) == (busy["CPUPressure"] != "--")
    every = _stats(anyone, "--all", "--no-trunc")
    assert (every["done"]["CPUPerc"], every["done"]["MemUsage"]) == ("--", "-- / --")
    assert len(every["done"]["ID"]) == 64
    (headings, line) = anyone("stats", "--no-stream", "large").stdout.splitlines()
    assert headings.startswith("CONTAINER ID   NAME")
    assert "p-large-1" in line
    anyone("down")


@pytest.mark.root
def test_network_and_disk(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        services:
          server:
            image: "host:"
            command: sh -c 'head -c 3000000 /dev/zero >/tmp/zero; cd /tmp; exec python3 -m http.server 80'
            stop_signal: SIGKILL
            ports: ["80"]
            healthcheck:
              test: [CMD, python3, -c, "import socket; socket.create_connection(('localhost', 80))"]
              interval: 200ms
          client:
            image: "host:"
            depends_on: {server: {condition: service_healthy}}
            entrypoint: [python3, -c]
            command: ["import time, urllib.request as r; r.urlopen('http://server/zero').read(); time.sleep(600)"]
            stop_signal: SIGKILL
        """
    )
    devenv("up", "-d")
    polling.eventually(lambda: "MB / " in _stats(devenv)["client"]["NetIO"], 20)
    assert " / 3" in _stats(devenv)["server"]["NetIO"]
    devenv("down")


@pytest.mark.root
def test_live_table(devenv: runner.Devenv, project: projects.Project, terminal_for: Any) -> None:
    project.write(SPEC)
    devenv("up", "-d")
    screen: terminal.Terminal = terminal_for(devenv, "stats")
    polling.eventually(lambda: "p-busy-1" in screen.screen() and "p-large-1" in screen.screen(), 20)
    devenv("stop", "busy")
    polling.eventually(lambda: "p-busy-1" not in screen.screen() and "p-large-1" in screen.screen(), 20)
    screen.send("C-c")
    screen.wait_for_exit()
    devenv("down")
