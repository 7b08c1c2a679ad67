"""Many containers on one bridge, and one container very many times: `--soak` has 200 and 1,000."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable

import pytest

from tests.support import engine, projects, runner

pytestmark = pytest.mark.root

CROWD = """
    name: crowd
    services:
      web:
        image: "host:"
        command: [sleep, "100000"]
        stop_signal: SIGKILL
        deploy: {replicas: %d}
      probe: {image: "host:", command: [sleep, "100000"], stop_signal: SIGKILL}
"""

# Who refuses a connection has been reached.
REACH = """
import socket, sys
found = sorted({each[4][0] for each in socket.getaddrinfo("web", 9, socket.AF_INET, socket.SOCK_STREAM)})
for address in found:
    try:
        socket.create_connection((address, 9), 10).close()
    except ConnectionRefusedError:
        pass
print(len(found))
"""

AGAIN = """
    name: again
    services:
      web:
        image: "host:"
        command: [sleep, "100000"]
        stop_signal: SIGKILL
        ports: ["127.0.0.1:0:80"]
        volumes: [/data]
        depends_on: [db]
      db: {image: "host:", command: [sleep, "100000"], stop_signal: SIGKILL}
"""
ROLES = ("supervisor", "zygote", "monitor", "proxy")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_a_crowd_on_one_bridge(
    anyone: runner.Devenv, project: projects.Project, soak: Callable[[int, int], int]
) -> None:
    many = soak(10, 200 if anyone.user is None else 50)
    project.write(CROWD % many)
    anyone("up", "-d", timeout=600)
    rows = anyone.ps()
    assert len(rows) == many + 1
    assert {row["State"] for row in rows.values()} == {"running"}
    assert anyone("exec", "-T", "probe", "python3", "-c", REACH, timeout=120).stdout.strip() == str(many)
    [network] = anyone.json("network", "inspect", "crowd_default")
    assert len({each["IPv4Address"] for each in network["Containers"].values()}) == many + 1
    # What devenv needs for so many is not what they get.
    granted = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert anyone.inside("web", "ulimit -Sn", "--index", "3") == str(granted)
    anyone("up", "-d", "--scale", "web=1", timeout=300)
    assert anyone("exec", "-T", "probe", "python3", "-c", REACH).stdout.strip() == "1"
    anyone("down", timeout=300)
    assert anyone("network", "ls", "-q").stdout == ""


def held(devenv: runner.Devenv) -> dict[str, tuple[int, int]]:
    """Of each of devenv's processes, how many descriptors and how many KiB it has."""
    found = {}
    for role in ROLES:
        pid = engine.find(devenv, role)
        assert pid is not None, role
        with open(f"/proc/{pid}/smaps_rollup") as file:
            memory = re.search(r"^Pss: +(\d+)", file.read(), re.MULTILINE)
        assert memory is not None
        found[role] = len(os.listdir(f"/proc/{pid}/fd")), int(memory[1])
    return found


@pytest.mark.timeout(3600)
def test_one_made_anew_again_and_again(
    devenv: runner.Devenv, project: projects.Project, soak: Callable[[int, int], int]
) -> None:
    project.write(AGAIN)
    devenv("up", "-d")
    cycles = soak(8, 1000)
    before: dict[str, tuple[int, int]] = {}
    for cycle in range(cycles):
        if cycle == max(cycles // 10, 3):
            before = held(devenv)
        devenv("up", "-d", "--no-deps", "--force-recreate", "-V", "web")
    after = held(devenv)
    print(before, after)
    for role, (descriptors, memory) in before.items():
        assert after[role][0] <= descriptors + 2, role
        # What grows by a KiB each time is a leak; the first few are caches that fill.
        assert after[role][1] <= memory + 2048 + cycles, role
    assert len(devenv.ps()) == 2
    assert len(devenv("volume", "ls", "-q").stdout.split()) == 1
