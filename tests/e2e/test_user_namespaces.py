"""`userns_mode: auto`: a range of ids for a project, and nothing on disk that shows it."""

from __future__ import annotations

import json
import os
import pathlib
import stat

import pytest

from tests.support import engine, machine, projects, runner
from tests.support.polling import eventually

# FS_ALLOW_IDMAP of overlayfs' layers: 5.19.
pytestmark = [pytest.mark.root, machine.needs_root, machine.needs_kernel(5, 19)]

PROJECT = """
    name: {name}
    services:
      one:
        image: "host:"
        userns_mode: auto
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: [".:/src:noidmap", "data:/data", "kept:/var/mail:ro"]
        devices: ["/dev/tty:/dev/other"]
      guest:
        image: "host:"
        userns_mode: auto
        network_mode: service:one
        pid: service:one
        ipc: service:one
        user: nobody
        command: [sh, -c, "echo written > /dev/stdout; exec sleep 1000"]
        stop_signal: SIGKILL
    volumes: {{data: {{}}, kept: {{}}}}
"""


def pid(devenv: runner.Devenv, service: str) -> int:
    for folder in pathlib.Path(devenv.data, "containers").iterdir():
        if json.loads((folder / "container.json").read_text())["service"] == service:
            return int(json.loads((folder / "state.json").read_text())["pid"])
    raise LookupError(service)


def spaces(devenv: runner.Devenv, *services: str) -> list[int]:
    """The user namespace of each service's first process."""
    return [os.stat(f"/proc/{pid(devenv, service)}/ns/user").st_ino for service in services]


def owners(path: str | os.PathLike[str]) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_uid, found.st_gid


@pytest.fixture
def running(devenv: runner.Devenv, project: projects.Project) -> runner.Devenv:
    project.write(PROJECT.format(name="mapped"))
    os.chown(project.path, 1000, 1000)
    devenv("up", "-d")
    return devenv


def test_files_have_the_same_owners_inside_and_on_disk(running: runner.Devenv, project: projects.Project) -> None:
    devenv = running
    assert devenv.inside("one", "stat -c %u:%g /src / /usr /usr/bin/env /etc/hosts").split() == [
        "1000:1000",
        *["0:0"] * 4,
    ]
    devenv.inside("one", "touch /src/made /data/made /usr/made && chown 7:8 /src/made /data/made /usr/made")
    assert owners(project / "made") == (7, 8)
    [volume] = pathlib.Path(devenv.data).glob("volumes/*/mapped_data/_data/made")
    [layer] = pathlib.Path(devenv.data).glob("containers/*/upper*/made")
    assert (owners(volume), owners(layer)) == ((7, 8), (7, 8))
    # The image's file is changed in the layer above it, in the image's owner's name.
    devenv.inside("one", "cd /usr/share/zoneinfo 2>/dev/null || cd /usr/share; mkdir new; mv new moved; rmdir moved")
    assert devenv.inside("one", "ls /usr/share/zoneinfo/moved /usr/share/moved", code=None) == ""


def test_a_read_only_volume_takes_the_images_content(running: runner.Devenv) -> None:
    [volume] = pathlib.Path(running.data).glob("volumes/*/mapped_kept/_data")
    assert stat.S_IMODE(volume.stat().st_mode) == 0o1777  # as the image's /var/mail
    assert "Read-only" in running("exec", "-T", "one", "touch", "/var/mail/x", code=None).stderr


def test_root_is_nobody_out_there(running: runner.Devenv) -> None:
    with open(f"/proc/{pid(running, 'one')}/status") as file:
        uid = next(int(line.split()[1]) for line in file if line.startswith("Uid:"))
    assert uid >= 1 << 30
    assert running.inside("one", "cat /proc/self/uid_map").split() == ["0", str(uid), "65536"]
    # As root of the machine it would be allowed to.
    assert running("exec", "-T", "--privileged", "one", "mknod", "/dev/x", "b", "7", "0", code=None).returncode != 0


def test_services_of_a_project_can_share_namespaces(running: runner.Devenv) -> None:
    one, guest = spaces(running, "one", "guest")
    assert one == guest != os.stat("/proc/self/ns/user").st_ino
    assert running.inside("guest", "cat /proc/1/comm; touch /dev/shm/x").split() == ["sleep"]
    assert running.inside("one", "ls /dev/shm").split() == ["x"]
    # An ordinary user of the image opens the pipe that the host has made.
    eventually(lambda: "written" in running("logs", "guest").stdout)


def test_devices_belong_to_whom_they_belong_on_the_host(running: runner.Devenv) -> None:
    given = running.inside("one", "stat -c %u:%g:%t:%T /dev/other /dev/null").split()
    assert given == [f"0:{os.stat('/dev/tty').st_gid}:5:0", "0:0:1:3"]
    running.inside("one", "exec 3<> /dev/full && head -c 3 /dev/urandom > /dev/null")


def test_after_its_monitor_the_namespace_is_found_again(running: runner.Devenv) -> None:
    before = spaces(running, "one")
    engine.kill(engine.find(running, "monitor"))
    running("up", "-d", "--force-recreate", "--no-deps", "guest")
    assert spaces(running, "one", "guest") == before * 2


def test_each_project_has_a_range_of_its_own_until_it_goes(running: runner.Devenv, short_path: pathlib.Path) -> None:
    other = projects.Project(short_path / "other").write(PROJECT.format(name="other"))
    running("up", "-d", "one", cwd=other)
    first, second = (
        running("exec", "-T", "one", "cat", "/proc/self/uid_map", cwd=folder).stdout for folder in (running.cwd, other)
    )
    assert first != second
    running("down", "-v", "-t", "0", cwd=other)
    running("stop", "-t", "0")
    running("up", "-d", "one")
    assert running.inside("one", "cat /proc/self/uid_map") == first.rstrip("\n")


def test_it_goes_with_whatever_else_a_service_asks_for(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: mapped
        services:
          hostnet: &one {image: "host:", userns_mode: auto, command: [sleep, "1000"], stop_signal: SIGKILL,
                         network_mode: host}
          hostpid: {<<: *one, network_mode: none, pid: host}
          hostipc: {<<: *one, network_mode: none, ipc: host, uts: host}
          all: {<<: *one, network_mode: none, privileged: true}
          set: {<<: *one, network_mode: none, sysctls: {net.ipv4.ip_default_ttl: 77, kernel.shmmax: 12345678}}
          bare: {<<: *one, network_mode: none, read_only: true, tmpfs: ["/scratch:uid=7,gid=8,mode=700"]}
          typed: {<<: *one, network_mode: none, tty: true, init: true, user: "33:33", command: [sh, -c, "tty; cat"]}
          told:
            <<: *one
            network_mode: none
            user: "33"
            secrets: [{source: word, uid: "33", mode: 0400}]
            command: [sh, -c, "cat /run/secrets/word; exec sleep 1000"]
        secrets: {word: {file: ./word}}
        """
    )
    project.write({"word": "swordfish\n"})
    os.chmod(project / "word", 0o400)
    os.chown(project / "word", 33, 33)
    devenv("up", "-d")
    assert len(set(spaces(devenv, "hostnet", "hostpid", "hostipc", "all", "set", "bare", "typed", "told"))) == 1
    assert "uplink" in devenv.inside("hostnet", "cat /proc/net/dev")
    # It sees them and has no rights over them.
    assert devenv.inside("hostpid", f"cat /proc/{os.getpid()}/comm; kill -0 {os.getpid()} && echo may", code=None) == (
        pathlib.Path("/proc/self/comm").read_text().strip()
    )
    assert devenv.inside("hostipc", "hostname") == os.uname().nodename
    assert devenv.inside("all", "mount -t tmpfs none /mnt && stat -f -c %T /mnt") == "tmpfs"
    assert "denied" in devenv("exec", "-T", "all", "sh", "-c", "echo 5 >/proc/sys/vm/swappiness", code=None).stderr
    assert devenv.inside("set", "cat /proc/sys/net/ipv4/ip_default_ttl").split() == ["77"]
    assert devenv.inside("bare", "stat -c %u:%g:%a /scratch; touch /x 2>/dev/null || echo no").split() == [
        "7:8:700",
        "no",
    ]
    eventually(lambda: "/dev/pts/0" in devenv("logs", "typed").stdout)
    eventually(lambda: "swordfish" in devenv("logs", "told").stdout)


def test_what_cannot_be_mapped_is_said(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(PROJECT.format(name="mapped")).edit('".:/src:noidmap"', '"/sys/kernel:/src"')
    said = devenv("up", "-d", "one", code=1).stderr
    assert "can't show files with other ids" in said
    assert "userns_mode: host" in said
    project.edit("userns_mode: auto", "userns_mode: host")
    devenv("up", "-d", "one")


def test_modes_that_are_not_known_are_refused(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(PROJECT.format(name="mapped")).edit("userns_mode: auto", "userns_mode: keep-id")
    assert "`userns_mode: keep-id` is not one of `auto`, `host`" in devenv("up", "-d", code=2).stderr


def test_a_volume_that_a_snapshot_was_taken_of(devenv: runner.Devenv, project: projects.Project) -> None:
    """It would be an overlay, of which no ids can be mapped: it is made one folder again."""
    project.write("""
        name: mapped
        x-base: &base {image: "host:", command: [sleep, "1000"], stop_signal: SIGKILL, volumes: ["data:/data"]}
        services:
          one: {<<: *base, userns_mode: auto}
          two: {<<: *base, profiles: [more]}
        volumes: {data: {}}
    """)
    devenv("up", "-d")
    devenv.inside("one", "mkdir /data/d; echo first > /data/d/f; chown 33:44 /data/d/f; ln -s f /data/d/l")
    devenv("snapshot", "save", "s")
    devenv.inside("one", "echo second > /data/d/f")
    devenv("snapshot", "restore", "s")
    look = "cat /data/d/l; stat -c %u:%g /data/d/f; mv /data/d /data/e"
    assert devenv.inside("one", look).split() == ["first", "33:44"]
    devenv("undo")
    assert devenv.inside("one", "cat /data/d/f").strip() == "second"
    [volume] = pathlib.Path(devenv.data, "volumes").glob("*/mapped_data")
    assert {path.name for path in volume.iterdir()} <= {"_data", "lock", "volume.json"}
    assert owners(volume / "_data/d/f") == (33, 44)
    # One that is in use as an overlay stays it, and that is said.
    devenv("stop", "one")
    devenv("snapshot", "save", "t")
    devenv("up", "-d", "two")
    assert "`two` uses it so" in devenv("start", "one", code=1).stderr.replace("mapped-two-1", "two")
    devenv("stop", "two")
    devenv("start", "one")
    assert devenv.inside("one", "cat /data/d/f").strip() == "second"
    devenv("down", "-v")
    devenv("snapshot", "rm", "s", "t", "--automatic")
