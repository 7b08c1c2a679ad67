"""The commands for containers: files in and out, what changed, images of it, and getting rid of them."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import tarfile

import pytest

from tests import ocilayout
from tests.support import machine, projects, runner

pytestmark = [pytest.mark.root, machine.needs_binary("busybox")]


def up(devenv: runner.Devenv, project: projects.Project, more: str = "", rest: str = "") -> None:
    folder = project / "images"
    ocilayout.busybox_layout(folder, config={"Cmd": ["sleep", "1000"]})
    for parent, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            project._own(pathlib.Path(parent, name))
    project.write(f'name: p\nservices:\n  app: {{image: "oci:images", init: true{", " * bool(more)}{more}}}\n{rest}')
    devenv("up", "-d")


def write(project: projects.Project, path: str, text: str, mode: int = 0o644) -> pathlib.Path:
    made = project / path
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(text)
    made.chmod(mode)
    for each in (made, *made.parents):
        if each.is_relative_to(project.path):
            project._own(each)
    return made


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_files_go_in_and_out(anyone: runner.Devenv, project: projects.Project) -> None:
    """Docker's table of what becomes of source and target; also of a container that doesn't run."""
    up(anyone, project)
    write(project, "one", "1\n", 0o754)
    write(project, "tree/deep/two", "2\n")
    (project / "tree" / "link").symlink_to("/etc/passwd")
    for state in ("running", "stopped"):
        if state == "stopped":
            anyone("stop", "-t", "0")
        base = f"/tmp/{state}"
        if state == "running":
            anyone.inside("app", "mkdir -p /tmp/running /tmp/stopped; ln -s /tmp /tmp/running/out")
        anyone("cp", "one", f"app:{base}")
        anyone("cp", "one", f"app:{base}/renamed")
        anyone("cp", "tree", f"app:{base}")
        anyone("cp", "tree/.", f"app:{base}/tree/again")
        assert "no folder" in anyone("cp", "one", f"app:{base}/nothing/", code=1).stderr
        assert "no folder" in anyone("cp", "one", f"app:{base}/nothing/x", code=1).stderr
        assert "is a file" in anyone("cp", "tree", f"app:{base}/one", code=1).stderr
        for name in ("one", "renamed", "tree", "tree/deep/two", "tree/again/deep"):
            anyone("cp", f"app:{base}/{name}", f"out-{state}-{os.path.basename(name)}")
        found = project / f"out-{state}-one"
        assert (found.read_text(), found.stat().st_mode & 0o777) == ("1\n", 0o754)
        assert (project / f"out-{state}-renamed").read_text() == "1\n"
        assert (project / f"out-{state}-deep" / "two").read_text() == "2\n"
        assert os.readlink(project / f"out-{state}-tree" / "link") == "/etc/passwd"
        assert (project / f"out-{state}-tree" / "again" / "deep" / "two").read_text() == "2\n"
        if anyone.user is not None:
            assert found.stat().st_uid == anyone.user.uid
    anyone("start")
    assert anyone.inside("app", "cat /tmp/stopped/tree/deep/two; stat -c %u:%g /tmp/stopped/one /tmp/running/tree") == (
        "2\n0:0\n0:0"
    )


def test_streams(devenv: runner.Devenv, project: projects.Project) -> None:
    up(devenv, project)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a/b")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"x\n"))
    options = devenv._options(None, None)
    command = [devenv.command, "cp", "-", "app:/tmp"]
    done = subprocess.run(command, input=made.getvalue(), capture_output=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([devenv.command, "cp", "app:/tmp/a", "-"], capture_output=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert [(each.name, each.isdir()) for each in archive] == [("a", True), ("a/b", False)]


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_no_link_leads_out(anyone: runner.Devenv, project: projects.Project) -> None:
    """Links of the container mean the container, links that come out of it stay where they are put."""
    up(anyone, project)
    write(project, "secret", "the machine's\n")
    outside = project / "outside"
    outside.mkdir()
    project._own(outside)
    anyone.inside(
        "app", f"ln -s {project.path}/secret /tmp/file; ln -s {project.path} /tmp/folder; ln -s ../../../../tmp /tmp/up"
    )
    assert "No such file" in anyone("cp", "-L", "app:/tmp/file", "got", code=1).stderr
    assert "No such file" in anyone("cp", "app:/tmp/folder/secret", "got", code=1).stderr
    anyone("cp", "app:/tmp/file", "got")
    assert os.path.islink(project / "got")
    assert "no folder" in anyone("cp", "secret", "app:/tmp/folder/stolen", code=1).stderr
    anyone("cp", "secret", "app:/tmp/up/here")
    assert anyone.inside("app", "cat /tmp/here") == "the machine's"
    # A folder that is a link in the archive and a folder of files below it: nothing is written through the link.
    anyone.inside("app", f"mkdir -p /tmp/trap; ln -s {outside} /tmp/trap/way; mkdir /tmp/trap2")
    anyone("cp", "app:/tmp/trap/.", "into")
    anyone.inside("app", "mkdir -p /tmp/again/way; echo bad > /tmp/again/way/file")
    anyone("cp", "app:/tmp/again/.", "into")
    assert not list(outside.iterdir())
    assert (project / "into" / "way" / "file").read_text() == "bad\n"
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../../../outside"))
    command = [anyone.command, "cp", "-", "app:/tmp"]
    done = subprocess.run(
        command, input=made.getvalue(), capture_output=True, timeout=60, **anyone._options(None, None)
    )
    assert done.returncode == 1
    assert b"lead out" in done.stderr


def test_copies_reach_volumes_and_every_replica(devenv: runner.Devenv, project: projects.Project) -> None:
    up(devenv, project, "volumes: [data:/data], scale: 2", "volumes: {data: }\n")
    write(project, "one", "1\n")
    devenv("cp", "one", "app:/etc/one")
    assert [devenv.inside("app", "cat /etc/one", "--index", str(number)) for number in (1, 2)] == ["1", "1"]
    devenv("stop", "-t", "0")
    devenv("cp", "one", "app:/data/one")
    devenv("cp", "--index", "2", "app:/data/one", "back")
    assert (project / "back").read_text() == "1\n"
    assert "has no container" in devenv("cp", "--index", "3", "one", "app:/x", code=1).stderr


def test_ids_of_a_user_namespace(devenv: runner.Devenv, project: projects.Project) -> None:
    up(devenv, project, "userns_mode: auto, volumes: [data:/data]", "volumes: {data: }\n")
    os.chown(write(project, "one", "1\n"), 33, 44)
    for target in ("/tmp/one", "/data/one"):
        devenv("cp", "one", f"app:{target}")
        devenv("cp", "-a", "one", f"app:{target}-a")
        assert devenv.inside("app", f"stat -c %u:%g {target} {target}-a") == "0:0\n33:44"
    devenv("stop", "-t", "0")
    devenv("cp", "-a", "one", "app:/data/later")
    devenv("start")
    assert devenv.inside("app", "stat -c %u:%g /data/later /data/one-a") == "33:44\n33:44"


def test_what_changed_and_an_image_of_it(anyone: runner.Devenv, project: projects.Project) -> None:
    up(anyone, project)
    anyone.inside("app", "rm /etc/motd 2>/dev/null; rm -r /srv; mkdir /srv; echo new > /srv/file; echo x > /bin/added")
    changes = anyone("container", "diff", "p-app-1").stdout.splitlines()
    assert {"A /bin/added", "C /bin", "A /srv/file", "C /srv", "D /srv/index.html"} <= set(changes)
    found = anyone("commit", "-m", "why", "-a", "Ann", "-c", 'CMD ["sleep", "999"]', "app", "mine:1").stdout.strip()
    anyone("down", "-t", "0")
    (shown,) = json.loads(anyone("image", "inspect", "mine:1").stdout)
    assert (shown["Id"], shown["Author"], shown["Config"]["Cmd"]) == (found, "Ann", ["sleep", "999"])
    assert "why" in anyone("image", "history", "mine:1").stdout
    project.write("name: p\nservices: {app: {image: 'mine:1', init: true, pull_policy: never}}\n")
    anyone("up", "-d")
    assert anyone.inside("app", "cat /srv/file /bin/added; ls /srv") == "new\nx\nfile"
    assert not {"A /etc/hosts", "C /etc/hosts"} & set(anyone("image", "diff", "mine:1").stdout.splitlines())


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_export(anyone: runner.Devenv, project: projects.Project) -> None:
    up(anyone, project, "volumes: [data:/data]", "volumes: {data: }\n")
    anyone.inside("app", "echo in > /data/volume; echo mine > /tmp/file; ln /tmp/file /tmp/hard")
    anyone("container", "export", "p-app-1", "-o", "files.tar")
    with tarfile.open(project / "files.tar") as archive:
        names = archive.getnames()
        assert archive.extractfile("tmp/file").read() == b"mine\n"  # type: ignore[union-attr]
        assert archive.getmember("tmp/hard").islnk()
    assert {"data", "proc", "bin/busybox", "etc/passwd"} <= set(names)
    assert not [name for name in names if name.startswith(("data/", "proc/", "sys/", "dev/"))]


def test_one_is_found_and_removed(devenv: runner.Devenv, project: projects.Project) -> None:
    up(devenv, project, "labels: {a: b}, ports: ['127.0.0.1::80']")
    devenv("run", "-d", "--name", "once", "app", "true")
    assert (
        devenv("container", "ls", "-q", "-f", "name=app").stdout.strip()
        == devenv("ps", "-q", "app").stdout.strip()[:12]
    )
    (shown,) = json.loads(devenv("container", "inspect", "p-app-1").stdout)
    assert (shown["Name"], shown["State"]["Running"], shown["Config"]["Labels"]["a"]) == ("/p-app-1", True, "b")
    assert shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    assert next(iter(shown["NetworkSettings"]["Networks"].values()))["IPAddress"]
    assert devenv("container", "inspect", "-f", "{{.State.Status}}", shown["Id"][:8]).stdout == "running\n"
    assert "is running" in devenv("container", "rm", "p-app-1", code=1).stderr
    devenv("wait", "once", code=None)
    assert "Deleted Containers:" in devenv("container", "prune", "--force").stdout
    devenv("container", "rm", "--force", "p-app-1")
    assert devenv("container", "ls", "-aq").stdout == ""
    devenv("down")
    assert "no container `p-app-1`" in devenv("container", "inspect", "p-app-1", code=1).stderr


@pytest.mark.parametrize("anyone", ["root", "dvrange"], indirect=True)
def test_rename(anyone: runner.Devenv, project: projects.Project) -> None:
    """The others find it by its new name at once; `ps`, `logs`, a supervisor's end and a later `up` go on."""
    up(anyone, project, rest='  peer: {image: "oci:images", init: true}\n')
    before = anyone("ps", "-q", "app").stdout
    anyone("container", "rename", "p-app-1", "/main.db")
    assert anyone("container", "ls", "-f", "name=main", "--format", "{{.Names}}").stdout == "main.db\n"
    address = anyone.inside("app", "hostname -i")
    assert f"Address: {address}" in anyone.inside("peer", "nslookup main.db").replace(" 1: ", ": ")
    assert f"Address: {address}" in anyone.inside("peer", "nslookup app").replace(" 1: ", ": ")
    refused = {
        "main.db": "is called that already",
        "p-peer-1": "is taken by",
        "p-peer-2": "is what `up` calls container 2 of service `peer`",
        "p-app-2": "is what `up` calls container 2 of service `app`",
        "peer": "means a service",
        "-x": "can't be",
        "a b": "can't be",
        "": "can't be",
    }
    for name, reason in refused.items():
        assert reason in anyone("container", "rename", "--", "main.db", name, code=None).stderr, name
    assert "no container `p-app-1`" in anyone("container", "rename", "p-app-1", "x1", code=1).stderr
    anyone("up", "-d", "--scale", "app=2")
    assert sorted(anyone("container", "ls", "--format", "{{.Names}}").stdout.split()) == [
        "main.db",
        "p-app-2",
        "p-peer-1",
    ]
    assert before.strip() in anyone("ps", "-q", "app").stdout.split()
    anyone("container", "rename", "main.db", "p-app-1")
    shown = anyone("ps", "--format", '{{.Name}}{{if eq .State "running"}} up{{end}}', "app").stdout
    assert shown == "p-app-1 up\np-app-2 up\n"


def test_what_is_made_later_takes_no_name_that_is_used(devenv: runner.Devenv, project: projects.Project) -> None:
    up(devenv, project)
    devenv("container", "rename", "p-app-1", "p-late-1")
    spec = (project / "devenv.yaml").read_text()
    project.write(f'{spec}  late: {{image: "oci:images", init: true, pid: "container:p-late-1"}}\n')
    assert "is called `p-late-1`" in devenv("up", "-d", code=1).stderr
    devenv("container", "rename", "p-late-1", "first")
    project.write(f'{spec}  late: {{image: "oci:images", init: true, pid: "container:first"}}\n')
    devenv("up", "-d")
    devenv("container", "rename", "first", "second")
    devenv("restart", "late")
    assert "p-late-1" in devenv("ps", "late").stdout
    assert "is called `second`" in devenv("run", "--rm", "--name", "second", "app", "true", code=1).stderr
