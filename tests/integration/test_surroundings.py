"""The tests' own footing: namespaces, users, leak checks and the rule about skips do what they say."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

from tests.support import isolation, leaks, machine, polling, runner

pytestmark = pytest.mark.root


def test_the_session_is_not_in_the_machines_network() -> None:
    assert {"lo", "uplink"} <= {name for _, name in socket.if_nameindex()}
    with open("/proc/net/route") as file:
        assert "uplink\t00000000" in file.read()


def test_extra_users_exist_for_every_child(rootless_user: isolation.User, plain_user: isolation.User) -> None:
    for user in (rootless_user, plain_user):
        done = subprocess.run(
            ["id", "-un"], user=user.uid, group=user.uid, extra_groups=[], capture_output=True, text=True
        )
        assert done.stdout.strip() == user.name
    ranges = pathlib.Path("/etc/subuid").read_text()
    assert f"{rootless_user.name}:" in ranges
    assert f"{plain_user.name}:" not in ranges


def test_users_may_open_the_tun_device(plain_user: isolation.User) -> None:
    subprocess.run(["sh", "-c", ": <>/dev/net/tun"], user=plain_user.uid, group=plain_user.uid, check=True)


@machine.needs_binary("newuidmap")
def test_newuidmap_accepts_the_range(rootless_user: isolation.User) -> None:
    script = "unshare --user sleep 60 & sleep 0.2; newuidmap $! 0 $(id -u) 1 1 %s 1000; cat /proc/$!/uid_map; kill $!"
    lines = pathlib.Path("/etc/subuid").read_text().splitlines()
    start = next(line.split(":")[1] for line in lines if line.startswith(rootless_user.name))
    done = subprocess.run(
        ["sh", "-c", script % start],
        user=rootless_user.uid,
        group=rootless_user.uid,
        extra_groups=[],
        capture_output=True,
        text=True,
    )
    assert start in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["root", "dvrange", "dvplain"])
def test_the_command_runs_as_every_user(devenv_as: Callable[[str], runner.Devenv], name: str) -> None:
    assert devenv_as(name)("version", "--short").stdout.count(".") == 2


def test_a_leak_is_told(surroundings: isolation.Session) -> None:
    before = leaks.Picture.take(surroundings.folder)
    subprocess.run(["ip", "link", "add", "left0", "type", "veth", "peer", "name", "left1"], check=True)
    process = subprocess.Popen(["sleep", "60"], cwd=surroundings.folder)
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        found = "\n".join(leaks.Picture.take(surroundings.folder).leaks_since(before, (), alone=False))
        assert "network interface: left0" in found
        assert f"process {process.pid}: (S) sleep 60" in found
        assert "/dev/null" in found
    finally:
        os.close(descriptor)
        process.kill()
        process.wait()
        subprocess.run(["ip", "link", "del", "left0"], check=True)


def test_eventually_tells_the_last_value() -> None:
    with pytest.raises(AssertionError, match="last value: 0"):
        polling.eventually(lambda: 0, 0.05)


def test_in_ci_a_skip_is_a_failure(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "tests" / "integration"
    folder.mkdir(parents=True)
    (tmp_path / "tests" / "conftest.py").write_text("from tests_of_devenv import *\n")
    (folder / "test_it.py").write_text(
        textwrap.dedent("""
        import pytest
        def test_no(): pytest.skip("did not feel like it")
        def test_yes(): pytest.skip("needs cgroup v2")
        """)
    )
    source = isolation.REPOSITORY / "tests" / "conftest.py"
    (tmp_path / "tests_of_devenv.py").write_text(source.read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "tests"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{isolation.REPOSITORY}"}
    for ci, expected in (("true", "1 failed, 1 skipped"), ("", "2 skipped")):
        done = subprocess.run(command, cwd=tmp_path, env=environment | {"CI": ci}, capture_output=True, text=True)
        assert expected in done.stdout, done.stdout + done.stderr
