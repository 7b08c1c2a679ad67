"""What a container can reach of the machine and of devenv: devices, cgroups, sockets, other mounts, more rights."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import stat
import subprocess

import pytest

from tests.support import engine, isolation, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

ONE = """
    name: reach
    services:
      one:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: ["./:/here"]
        security_opt: ["seccomp:unconfined"]
"""


@pytest.fixture
def running(devenv: runner.Devenv, project: projects.Project) -> runner.Devenv:
    project.write(ONE)
    devenv("up", "-d")
    return devenv


def test_the_machines_devices(running: runner.Devenv) -> None:
    """GHSA-g54h: what isn't listed can't be opened, though nodes can be made (CAP_MKNOD)."""
    disk = os.stat("/").st_dev
    nodes = {"disk": f"b {os.major(disk)} {os.minor(disk)}", "memory": "c 1 1", "ports": "c 1 4", "log": "c 1 11"}
    for name, numbers in nodes.items():
        script = f"mknod /tmp/{name} {numbers} && head -c 1 /tmp/{name} | wc -c"
        done = running("exec", "-T", "one", "sh", "-c", script, code=None)
        assert done.stdout.strip() == "0", name
        assert "not permitted" in done.stderr, name


def test_cgroups_are_looked_at_and_no_more(running: runner.Devenv) -> None:
    """CVE-2023-25809, CVE-2022-0492: no process can be moved and no `release_agent` be set, filter or not."""
    writable = "find /sys/fs/cgroup /proc/sys /sys/kernel -writable -type f 2>/dev/null | head"
    assert running.inside("one", writable) == ""
    for kind, options in (("cgroup", "memory"), ("cgroup", "rdma"), ("cgroup2", "x")):
        mount = f"mount -t {kind} -o {options} none /tmp/c"
        running.inside("one", "mkdir -p /tmp/c")
        for script in (mount, f"unshare -UrmC sh -c '{mount} && echo /bin/sh >/tmp/c/release_agent'"):
            assert running("exec", "-T", "one", "sh", "-c", script, code=None).returncode != 0, script


def test_what_is_hidden_stays_so(running: runner.Devenv) -> None:
    """Not even in a user namespace of its own does a container see /proc or /sys without what covers them."""
    for script in (
        "unshare -Urmpf mount -t proc none /mnt",
        "unshare -Urmn mount -t sysfs none /mnt",
        "unshare -Urm umount /proc/keys",
        "unshare -Urm umount /proc/sys",
        "unshare -Urm mount -o remount,rw,bind /proc/sys",
        "unshare -Urm mount -o remount,rw,bind /sys",
        "mount -o remount,rw,bind /proc/sys",
        "umount /proc/keys",
    ):
        assert running("exec", "-T", "one", "sh", "-c", script, code=None).returncode != 0, script
    # That namespaces can be made as such is what makes these tests of something.
    assert running.inside("one", "unshare -Urm sh -c 'mount -t tmpfs none /mnt && echo mounted'") == "mounted"


def test_no_rights_by_set_user_id(running: runner.Devenv, project: projects.Project) -> None:
    """Unless the service says so: then as everywhere else."""
    program = project / "id"
    program.write_bytes(pathlib.Path(shutil.which("id") or "").read_bytes())
    program.chmod(0o4755)
    assert running.inside("one", "/here/id -u", "-u", "1234") == "1234"
    project.edit("seccomp:unconfined", "no-new-privileges:false")
    running("up", "-d")
    assert running.inside("one", "/here/id -u", "-u", "1234") == "0"


def test_the_state_is_the_users_own(
    devenv: runner.Devenv, project: projects.Project, plain_user: isolation.User
) -> None:
    """CVE-2021-41091, CVE-2024-25621: no other user gets at layers with set-user-ID programs, logs or sockets."""
    project.write(ONE)
    devenv("up", "-d")
    uid = plain_user.uid
    for path in (devenv.data, devenv.run_directory):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700, path
        assert subprocess.run(["ls", path], user=uid, group=uid, extra_groups=[], capture_output=True).returncode != 0
    sockets = [path for path in pathlib.Path(devenv.run_directory).rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
    assert len(sockets) >= 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o600}


def test_a_stranger_is_turned_away(
    devenv: runner.Devenv, project: projects.Project, plain_user: isolation.User
) -> None:
    """Even one who was let into the folder: SO_PEERCRED."""
    project.write(ONE)
    devenv("up", "-d")
    folder = next(pathlib.Path(devenv.run_directory).glob("projects/reach-*"))
    names = [path for path in folder.iterdir() if path.name in {"supervisor.sock", "command.sock", "monitor.sock"}]
    assert len(names) == 3
    for path in names:
        kind = socket.SOCK_SEQPACKET if path.name == "monitor.sock" else socket.SOCK_STREAM
        with socket.socket(socket.AF_UNIX, kind) as stranger:
            os.chdir(folder)
            try:
                os.chmod(folder, 0o711)
                os.chmod(path.name, 0o666)
                os.seteuid(plain_user.uid)
                try:
                    stranger.connect(path.name)
                finally:
                    os.seteuid(0)
            finally:
                os.chmod(path, 0o600)
                os.chmod(folder, 0o700)
                os.chdir("/")
            stranger.settimeout(20)
            assert stranger.recv(1) == b"", path.name


def test_no_abstract_sockets(running: runner.Devenv) -> None:
    """CVE-2020-15257: who shares the network namespace reaches those, whatever the files look like."""
    running("exec", "-T", "one", "true")
    pids = [engine.find(running, role) for role in ("supervisor", "zygote", "monitor")]
    inodes = set()
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                inodes.add(os.readlink(f"/proc/{pid}/fd/{name}").removeprefix("socket:[").rstrip("]"))
            except FileNotFoundError:
                continue
    rows = [line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]]
    ours = [row for row in rows if row[6] in inodes]
    assert len(ours) >= 3
    assert not [row for row in ours if len(row) > 7 and row[7].startswith("@")]


def test_mounts_stay_where_they_are_made(devenv: runner.Devenv, project: projects.Project) -> None:
    """Neither the host's show up inside later, nor the container's outside."""
    shared = project / "shared"
    (shared / "sub").mkdir(parents=True)
    project.write(
        ONE.replace('"./:/here"', '"./shared:/here"').replace("stop_signal", "privileged: true\n        stop_signal")
    )
    subprocess.run(["mount", "-t", "tmpfs", "shared", shared], check=True)
    try:
        subprocess.run(["mount", "--make-shared", shared], check=True)
        for name in ("outside", "inside"):
            (shared / name).mkdir()
        devenv("up", "-d")
        subprocess.run(["mount", "-t", "tmpfs", "of-the-host", shared / "outside"], check=True)
        devenv.inside("one", "mount -t tmpfs of-the-container /here/inside && touch /here/inside/x")
        assert "of-the-host" not in devenv.inside("one", "cat /proc/self/mountinfo")
        assert "of-the-container" not in pathlib.Path("/proc/self/mountinfo").read_text()
        assert list((shared / "inside").iterdir()) == []
    finally:
        subprocess.run(["umount", "-R", shared], check=True)


def test_a_container_that_covers_its_own_proc(devenv: runner.Devenv, project: projects.Project) -> None:
    """CVE-2019-16884: what stands there answers nobody, and keeps nobody from entering."""
    project.write(ONE.replace("stop_signal", "privileged: true\n        stop_signal"))
    devenv("up", "-d")
    devenv.inside("one", "mount -t tmpfs none /proc && mkdir -p /proc/self /proc/thread-self/attr && chmod 000 /")
    assert devenv.inside("one", "echo entered") == "entered"
    assert devenv.inside("one", "id -u", "-u", "1234", code=None) in {"1234", ""}
    devenv("stop")


def test_a_health_check_that_never_ends(devenv: runner.Devenv, project: projects.Project) -> None:
    """Its output is cut, and at its time limit it goes with all that it has started."""
    project.write(
        ONE.rstrip()
        + """
        healthcheck: {test: "(setsid sleep 4321 &) ; sleep 4322 & yes", interval: 0.1s, timeout: 1s, retries: 1}
        """
    )
    devenv("up", "-d")
    eventually(lambda: "unhealthy" in devenv.ps()["reach-one-1"]["Status"], 30)
    record = next(pathlib.Path(devenv.data, "containers").glob("*/health.json"))
    assert 4096 <= len(record.read_text()) < 5 * 5000
    # Those of the check that is under way, and no more; 4321 is a daemon's.
    left = "for i in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$i; echo; done 2>/dev/null | grep -c '^sleep 43'; true"
    eventually(lambda: len(json.loads(record.read_text())["log"]) == 5, 30)
    assert int(devenv.inside("one", left)) <= 2


def test_nothing_stays_open_in_devenvs_processes(running: runner.Devenv) -> None:
    """Not of what ran, nor of what failed to (runc's #5007)."""

    def count() -> dict[str, int]:
        return {
            role: len(os.listdir(f"/proc/{engine.find(running, role)}/fd"))
            for role in ("supervisor", "zygote", "monitor")
        }

    def cycle() -> None:
        running("exec", "-T", "one", "true")
        running("exec", "-T", "one", "no-program", code=127)
        running("exec", "-T", "-u", "nobody-there", "one", "true", code=None)
        running("run", "--rm", "-T", "one", "true")
        running("run", "--rm", "-T", "one", "no-program", code=None)

    cycle()
    before = count()
    for _ in range(3):
        cycle()
    eventually(lambda: count() == before, 15, describe=f"{before}")
