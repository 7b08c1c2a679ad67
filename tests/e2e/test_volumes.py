"""Volumes of every kind, and the commands about them."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from devenv.linux import mount
from devenv.runtime import rootfs
from tests.support import machine, projects, runner

PROJECT = """
    name: vol
    services:
      app:
        image: "host:"
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        volumes: ["data:/data", "/anonymous", "scratch:/scratch"]
    volumes:
      data: {labels: {team: blue}}
      scratch: {driver_opts: {type: tmpfs, device: tmpfs, o: "size=1m,mode=0750"}}
"""


def test_the_commands(anyone: runner.Devenv, project: projects.Project) -> None:
    devenv = anyone
    project.write(PROJECT)
    devenv("up", "-d")
    script = "mkdir /data/d; echo hello > /data/d/f; ln /data/d/f /data/link; ln -s d/f /data/sym; chmod 640 /data/d/f"
    devenv.inside("app", f"{script}; truncate -s 1M /data/hole; stat -f -c %T /scratch")
    names = devenv("volume", "ls", "-q").stdout.split()
    assert {"vol_data", "vol_scratch"} < set(names)
    assert len(names) == 3
    assert devenv("volume", "ls", "-q", "--filter", "label=team=blue").stdout.split() == ["vol_data"]
    assert devenv("volume", "ls", "--filter", "dangling=true").stdout.split() == ["DRIVER", "VOLUME", "NAME"]
    [shown] = json.loads(devenv("volume", "inspect", "vol_data").stdout)
    assert (shown["Driver"], shown["Labels"], shown["Scope"]) == ("local", {"team": "blue"}, "local")
    assert devenv("volume", "inspect", "-f", "{{.Name}}", "vol_data").stdout == "vol_data\n"
    rows = json.loads(devenv("volumes", "--format", "json").stdout)
    assert {row["Name"] for row in rows} == set(names)

    devenv("volume", "export", "vol_data", "-o", "kept.tar")
    with tarfile.open(project / "kept.tar") as archive:
        assert sorted(archive.getnames()) == ["d", "d/f", "hole", "link", "sym"]
    devenv("volume", "import", "other", "kept.tar")
    # What runs would write between what comes in.
    assert "`vol_data` is in use" in devenv("volume", "import", "vol_data", "kept.tar", code=1).stderr
    assert "`none.tar` can't be read: No such file" in devenv("volume", "import", "other", "none.tar", code=2).stderr
    assert "`/tmp` is not a regular file" in devenv("volume", "import", "other", "/tmp", code=2).stderr
    assert "`/tmp` is a folder" in devenv("volume", "export", "vol_data", "-o", "/tmp", code=2).stderr
    assert "did you mean `vol_data`?" in devenv("volume", "export", "data", "-o", "x", code=1).stderr
    with devenv.start("volume", "export", "vol_data", stderr=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.close()
        assert "Traceback" not in reading.stderr.read()
    assert devenv("volume", "clone", "vol_data", "again").stdout == "again\n"
    assert devenv("volume", "create", "--label", "a=b", "made").stdout == "made\n"
    project.write(
        PROJECT + "      other: {external: true}\n      again: {external: true, name: again}\n"
        "      made: {external: true}\n"
    ).edit(r'"scratch:/scratch"', '"other:/other", "again:/again", "made:/made"')
    devenv("up", "-d")
    look = "cd $0; cat d/f sym; stat -c %a d/f; stat -c %h link; stat -c %s hole"
    for place in ("/data", "/other", "/again"):
        assert devenv("exec", "-T", "app", "sh", "-c", look, place).stdout.split() == [
            *["hello"] * 2, "640", "2", str(1 << 20)
        ]  # fmt: skip

    assert "in use" in devenv("volume", "rm", "vol_data", code=1).stderr
    devenv("down")
    assert devenv("volume", "rm", "made", "vol_scratch").stdout.split() == ["made", "vol_scratch"]
    assert "no volume `made`" in devenv("volume", "rm", "made", code=1).stderr
    devenv("volume", "rm", "-f", "made")
    left = set(devenv("volume", "ls", "-q").stdout.split())
    assert {"vol_data", "other", "again"} < left
    assert "Total reclaimed space" in devenv("volume", "prune", "-f").stdout
    assert set(devenv("volume", "ls", "-q").stdout.split()) == {"vol_data", "other", "again"}
    devenv("volume", "prune", "-a", "-f")
    assert devenv("volume", "ls", "-q").stdout == ""


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_a_new_volume_belongs_to_who_uses_it(anyone: runner.Devenv, project: projects.Project) -> None:
    """Docker's would be root's, and of use to nobody; where the image has a folder, that says whose it is."""
    project.write(
        """
        name: vol
        services:
          app:
            image: "host:"
            user: "999:998"
            command: [sleep, "1000"]
            stop_signal: SIGKILL
            volumes: ["data:/srv/new/data", "/anonymous", "there:/srv/new", "bare:/bare:nocopy"]
        volumes: {data: {}, there: {}, bare: {}}
        """
    )
    anyone("up", "-d")
    look = "stat -c %u:%g /srv/new/data /anonymous /srv/new /bare"
    assert anyone.inside("app", look).split() == ["999:998"] * 3 + ["0:0"]
    anyone.inside("app", "touch /srv/new/data/mine /anonymous/mine")
    anyone("up", "-d", "--force-recreate")
    assert anyone.inside("app", f"touch /srv/new/data/more; {look}").split() == ["999:998"] * 3 + ["0:0"]


def test_a_tmpfs_by_driver_opts(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(PROJECT)
    anyone("up", "-d")
    assert anyone.inside("app", "stat -f -c %T /scratch; stat -c %a /scratch").split() == ["tmpfs", "750"]
    assert anyone.inside("app", "head -c 2M /dev/zero > /scratch/x; stat -c %s /scratch/x", code=None).strip() == str(
        1 << 20
    )


def test_another_name_is_another_volume(devenv: runner.Devenv, project: projects.Project) -> None:
    """Of a key in the spec that stays: its containers are made anew, or they would go on with the former's data."""
    project.write(PROJECT)
    devenv("up", "-d")
    devenv.inside("app", "echo first > /data/f")
    devenv("volume", "create", "elsewhere")
    named = "data: {external: true, name: elsewhere}"
    project.write(PROJECT.replace("data: {labels: {team: blue}}", named))
    assert named in (project / "devenv.yaml").read_text()
    assert "(volumes changed)" in devenv("plan").stdout
    devenv("up", "-d")
    assert devenv.inside("app", "ls /data") == ""
    project.write(PROJECT)
    devenv("up", "-d")
    assert devenv.inside("app", "cat /data/f").strip() == "first"
    project.write(PROJECT.replace("{labels: {team: blue}}", "{driver_opts: {type: none, o: bind, device: /tmp}}"))
    assert "with other options" in devenv("up", "-d", code=1).stderr
    devenv("down")


def test_driver_opts_that_make_no_volume(devenv: runner.Devenv, project: projects.Project) -> None:
    for options, words in (
        ("{type: nfs}", "need a `device`"),
        ("{type: none, device: /tmp}", "without `o: bind`"),
        ("{type: tmpfs, device: tmpfs, o: sice=1m}", "did you mean `size`"),
        ("{kind: nfs}", "has no `kind`"),
    ):
        project.write(PROJECT.replace('{type: tmpfs, device: tmpfs, o: "size=1m,mode=0750"}', options))
        assert words in devenv("up", "-d", code=1).stderr


@pytest.mark.root
@machine.needs_root
def test_a_disk_of_its_own(devenv: runner.Devenv, project: projects.Project) -> None:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs hardware: a disk, or mkfs.ext4 to make one in a file")
    image = project / "disk.img"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    done = subprocess.run(["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs hardware: a loop device")
    device = done.stdout.strip()
    try:
        project.write(PROJECT.replace('tmpfs, device: tmpfs, o: "size=1m,mode=0750"', f"ext4, device: {device}"))
        devenv("up", "-d")
        devenv.inside("app", "echo kept > /scratch/f")
        devenv("up", "-d", "--force-recreate")
        assert devenv.inside("app", "cat /scratch/f; stat -f -c %T /scratch").split() == ["kept", "ext2/ext3"]
        devenv("down")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@pytest.mark.root
@machine.needs_root
def test_a_filesystem_mounted_by_the_host(tmp_path: pathlib.Path) -> None:
    """As nfs is, by another name: its mount stands nowhere until the container takes it."""
    tree = rootfs.beforehand({"type": "tmpfs", "source": "t", "options": ["size=1m", "mode=0751", "ro", "nosuid"]})
    place = tmp_path / "here"
    place.mkdir()
    mount.move_mount(tree, "", mount.AT_FDCWD, str(place), mount.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)
    try:
        assert place.stat().st_mode & 0o777 == 0o751
        assert os.statvfs(place).f_flag & (os.ST_RDONLY | os.ST_NOSUID) == os.ST_RDONLY | os.ST_NOSUID
    finally:
        mount.umount2(str(place), 0)


def test_an_archive_that_leads_out_is_refused(devenv: runner.Devenv, project: projects.Project) -> None:
    with tarfile.open(project / "bad.tar", "w") as archive:
        info = tarfile.TarInfo("../../evil")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    assert "lead out" in devenv("volume", "import", "v", "bad.tar", code=1).stderr


def test_volumes_from_a_service_and_from_a_container_of_another_project(
    anyone: runner.Devenv, project: projects.Project
) -> None:
    os.umask(0o022)
    project.write(
        {
            "one/devenv.yaml": """
                name: one
                services:
                  data:
                    image: "host:"
                    command: [sleep, "1000"]
                    stop_signal: SIGKILL
                    volumes: ["kept:/kept", "/nameless", "./bound:/bound:ro", {type: tmpfs, target: /own}]
                  beside:
                    image: "host:"
                    command: [sleep, "1000"]
                    stop_signal: SIGKILL
                    volumes_from: [data]
                volumes: {kept: {}}
            """,
            "two/devenv.yaml": """
                name: two
                services:
                  other:
                    image: "host:"
                    command: [sleep, "1000"]
                    stop_signal: SIGKILL
                    volumes_from: ["container:one-data-1:ro"]
            """,
        }
    )
    project.write({"one/bound/file": "bound"})
    missing = anyone("up", "-d", cwd=project / "two", code=1)
    assert "`volumes_from: container:one-data-1` names no container" in missing.stderr
    anyone("up", "-d", cwd=project / "one")
    anyone.inside("data", "echo k >/kept/k; echo n >/nameless/n; touch /own/mine", cwd=project / "one")
    assert anyone.inside("beside", "cat /kept/k /nameless/n /bound/file", cwd=project / "one") == "k\nn\nbound"
    anyone.inside("beside", "echo 2 >/nameless/n; test ! -e /own/mine", cwd=project / "one")
    anyone("up", "-d", cwd=project / "two")
    assert anyone.inside("other", "cat /kept/k /nameless/n /bound/file", cwd=project / "two") == "k\n2\nbound"
    assert "Read-only" in anyone.inside("other", "touch /kept/x 2>&1; true", cwd=project / "two")
