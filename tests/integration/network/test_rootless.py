"""The same in a user namespace, whose engine may not touch the network it was born in."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devenv.network import rootless
from tests.support import netlab

Make = Callable[[], netlab.Container]


@pytest.fixture
def outside(container: Make) -> socket.socket:
    box = container()
    for command in (
        f"ip link add up0 type veth peer name up0 netns {box.pid}",
        "ip addr add 198.51.100.1/24 dev up0",
        "ip link set up0 up",
    ):
        subprocess.run(command.split(), check=True)
    box.shell("ip link set lo up; ip addr add 198.51.100.2/24 dev up0; ip link set up0 up")
    subprocess.run(["ip", "route", "add", "default", "via", "198.51.100.2"], check=True)
    return box.run(lambda: socket.create_server(("198.51.100.2", 8000)))


def play(root: Path, *, without: tuple[str, ...] = ()) -> dict[str, object]:
    tools = root / "bin"
    tools.mkdir()
    (root / "inside").mkdir()
    for name in {"sleep", "pasta", "slirp4netns"} - set(without):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    command = [
        shutil.which("unshare") or "unshare",
        "-Ur",
        sys.executable,
        "-m",
        "tests.integration.network.rootless_scene",
        str(root / "inside"),
    ]
    ended = subprocess.run(
        [*command, "198.51.100.2"],
        env={"PATH": str(tools), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


@pytest.mark.parametrize("program", ["pasta", "slirp4netns"])
def test_a_project_in_a_user_namespace(tmp_path: Path, outside: socket.socket, program: str) -> None:
    if shutil.which(program) is None or not os.access(rootless.TUN, os.R_OK | os.W_OK):
        pytest.skip(f"needs {program} and {rootless.TUN}")
    with outside:
        found = play(tmp_path, without=tuple({"pasta", "slirp4netns"} - {program}))
    assert found == {
        "in_user_namespace": True,
        "notes": [],
        "loopback": True,
        "peer": True,
        "outside": True,
        "on_host": False,
        "ports": "hello, port `80/tcp` is reserved for root",
        "found_again": True,
        "after_its_holder_died": True,
        "left": [],
    }


def test_without_a_way_out_services_still_reach_each_other(tmp_path: Path, outside: socket.socket) -> None:
    with outside:
        found = play(tmp_path, without=("pasta", "slirp4netns"))
    assert found["peer"]
    assert not found["outside"]
    assert "neither `pasta` nor `slirp4netns` is installed" in str(found["notes"])
