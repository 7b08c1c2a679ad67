"""Where less is to be had: a data folder that no overlay can be on, and inside another container."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator

import pytest

from tests import ocilayout
from tests.support import isolation, machine, projects, runner
from tests.support.polling import eventually

pytestmark = [pytest.mark.root, machine.needs_root]

INNER = """
    name: inner
    services:
      one:
        image: "host:"
        command: [sh, -c, "echo from within; exec sleep 1000"]
        stop_signal: SIGKILL
"""


def daemons(folder: str) -> list[str]:
    """The command lines of the programs that serve files below ``folder``."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if words[0].endswith("fuse-overlayfs") and folder in " ".join(words):
                found.append(" ".join(words))
    return found


# -- a filesystem that can't --------------------------------------------------------------------------------------


@pytest.fixture
def device() -> Iterator[None]:
    """/dev/fuse as distributions have it, open to everybody, for this session alone."""
    os.mknod("/run/dv-fuse", stat.S_IFCHR | 0o666, os.makedev(10, 229))
    os.chmod("/run/dv-fuse", 0o666)
    subprocess.run(["mount", "--bind", "/run/dv-fuse", "/dev/fuse"], check=True)
    yield
    subprocess.run(["umount", "/dev/fuse"], check=True)
    os.unlink("/run/dv-fuse")


@contextlib.contextmanager
def on_an_overlay(devenv: runner.Devenv, short_path: pathlib.Path) -> Iterator[None]:
    """The data folder becomes one that can't be the top of another overlay."""
    for name in ("lower", "upper", "work"):
        (short_path / name).mkdir()
    os.makedirs(devenv.data, exist_ok=True)
    options = f"lowerdir={short_path}/lower,upperdir={short_path}/upper,workdir={short_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, devenv.data], check=True)
    if devenv.user is not None:
        os.chown(devenv.data, devenv.user.uid, devenv.user.uid)
    try:
        yield
    finally:
        devenv.close()
        subprocess.run(["umount", devenv.data], check=True)


@machine.needs_binary("fuse-overlayfs")
@pytest.mark.parametrize("name", ["root", "dvrange"])
def test_fuse_overlayfs_stands_in_for_the_kernels(
    name: str, device: None, devenv_as: Callable[[str], runner.Devenv], short_path: pathlib.Path
) -> None:
    devenv = devenv_as(name)
    folder = projects.Project(short_path / "project", uid=devenv.user.uid if devenv.user else None)
    devenv.cwd = os.fspath(folder.write(INNER))
    with on_an_overlay(devenv, short_path):
        devenv("up", "-d")
        assert len(daemons(devenv.data)) == 3  # the root, /usr and /opt
        # It writes, whoever runs it; and neither does the container see who serves it, nor does its end wait for that.
        devenv.inside("one", "touch /usr/made /made && chown 1:1 /made && rm /etc/passwd")
        assert devenv.inside("one", "stat -c %u:%g /made; cat /proc/[0-9]*/comm | sort -u").split()[0] == "1:1"
        assert "fuse" not in devenv.inside("one", "cat /proc/[0-9]*/comm")
        devenv("restart", "-t", "0")
        assert devenv.inside("one", "ls /made /etc/passwd", code=None) == "/made"
        devenv("kill")
        eventually(lambda: not daemons(devenv.data))
        # Also while it doesn't run.
        folder.write({"in": "in\n"})
        devenv("cp", "in", "one:/usr/copied")
        devenv("cp", "one:/made", "out")
        assert os.path.exists(folder / "out")
        devenv("cp", "one:/etc", "etc")
        assert os.path.exists(folder / "etc" / "hosts")
        assert not os.path.exists(folder / "etc" / "passwd")
        eventually(lambda: not daemons(devenv.data))
        devenv("up", "-d")
        assert devenv.inside("one", "cat /usr/copied") == "in"


@machine.needs_binary("fuse-overlayfs")
@machine.needs_binary("busybox")
@pytest.mark.parametrize("name", ["root", "dvrange"])
def test_what_it_hides_is_hidden_in_an_image_of_it(
    name: str, device: None, devenv_as: Callable[[str], runner.Devenv], short_path: pathlib.Path
) -> None:
    devenv = devenv_as(name)
    project = projects.Project(short_path / "project", uid=devenv.user.uid if devenv.user else None)
    devenv.cwd = os.fspath(
        project.write("name: p\nservices: {app: {image: 'app:1', init: true, pull_policy: never}}\n")
    )
    ocilayout.busybox_layout(short_path / "layout", config={"Cmd": ["sleep", "1000"]})
    for path in (short_path / "layout").rglob("*"):
        path.chmod(0o755)
    with on_an_overlay(devenv, short_path):
        devenv("image", "load", "-i", os.fspath(short_path / "layout"))
        devenv("image", "tag", devenv("image", "ls", "-q").stdout.strip(), "app:1")
        devenv("up", "-d")
        devenv.inside("app", "rm -r /etc/group /var /srv; mkdir /var; echo new > /var/new")
        for state in ("running", "stopped"):
            if state == "stopped":
                devenv("stop", "-t", "0")
            devenv("commit", "app", f"{state}:1")
            devenv("image", "save", "-o", f"{state}.tar", f"{state}:1")
            hidden = [name for name in top_layer(project / f"{state}.tar") if "/.wh." in f"/{name}"]
            assert {"etc/.wh.group", ".wh.srv"} <= set(hidden)
            assert {"var/.wh.lib", "var/.wh.tmp"} <= set(hidden) or "var/.wh..wh..opq" in hidden
        # Which an overlay can't be told.
        project.write("name: p\nservices: {app: {image: 'stopped:1', pull_policy: never}}\n")
        assert "set DEVENV_DATA_HOME" in devenv("up", "-d", "-t", "0", code=4).stderr
        devenv("down", "-t", "0")


def top_layer(archive: pathlib.Path) -> list[str]:
    with tarfile.open(archive) as saved:

        def read(digest: str) -> bytes:
            member = saved.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert member is not None
            return member.read()

        index = saved.extractfile("index.json")
        assert index is not None
        manifest = json.loads(read(json.load(index)["manifests"][0]["digest"]))
        with tarfile.open(fileobj=io.BytesIO(read(manifest["layers"][-1]["digest"]))) as layer:
            return layer.getnames()


def test_without_it_the_way_out_is_told(devenv: runner.Devenv, short_path: pathlib.Path) -> None:
    devenv.cwd = os.fspath(projects.Project(short_path / "project").write(INNER))
    (short_path / "bin").mkdir()
    devenv.env["PATH"] = str(short_path / "bin")
    with on_an_overlay(devenv, short_path):
        said = devenv("up", "-d", code=1).stderr
        assert "the kernel can't mount an overlay in" in said
        assert "DEVENV_DATA_HOME" in said
        assert "install `fuse-overlayfs`" in said


# -- inside another container -------------------------------------------------------------------------------------

OUTER = """
    name: outer
    services:
      outer:
        image: "host:"
        <<: {rights}
        command: [sleep, "1000"]
        stop_signal: SIGKILL
        environment: {{DEVENV_DATA_HOME: /state/d, DEVENV_RUNTIME_DIR: /run/dv}}
        volumes: ["{install}:{install}:ro", "./inner:/inner", "state:/state"]
        working_dir: /inner
    volumes: {{state: {{}}}}
"""


@pytest.fixture
def outer(
    devenv: runner.Devenv, project: projects.Project, surroundings: isolation.Session
) -> Callable[[str], Callable[..., runner.Result]]:
    """Brings a container with certain rights up, and answers with a function that runs devenv in there."""
    command = isolation.install(surroundings)

    def make(rights: str) -> Callable[..., runner.Result]:
        project.write({"devenv.yaml": OUTER.format(rights=rights, install=surroundings.install)})
        project.write({"inner/devenv.yaml": INNER})
        devenv("up", "-d")
        return lambda *words, before=(), **more: devenv("exec", "-T", "outer", *before, command, *words, **more)

    return make


# As podman gives them: it leaves CAP_MKNOD out, which Docker doesn't.
SOME = "{cap_add: [SYS_ADMIN, NET_ADMIN, SYS_PTRACE], cap_drop: [MKNOD], security_opt: ['seccomp:unconfined']}"


def test_an_environment_in_a_container(outer: Callable[[str], Callable[..., runner.Result]]) -> None:
    inner = outer(SOME)
    inner("up", "-d")
    assert "from within" in inner("logs", "one").stdout
    assert inner("exec", "-T", "one", "cat", "/proc/1/comm").stdout == "sleep\n"
    inner("down", "-t", "0")


def test_a_container_without_rights_is_told_which(outer: Callable[[str], Callable[..., runner.Result]]) -> None:
    inner = outer("{privileged: false}")
    said = inner("doctor", code=1).stdout
    assert "root lacks SYS_ADMIN, NET_ADMIN, SYS_PTRACE" in said
    assert "cap_add: [SYS_ADMIN, NET_ADMIN, SYS_PTRACE]" in said
    assert "modprobe" not in said


def test_an_ordinary_user_in_a_container(outer: Callable[[str], Callable[..., runner.Result]]) -> None:
    """With one id and a /proc that is masked: what is left works, and what lacks is told."""
    inner = outer("{user: '1000:1000', security_opt: ['seccomp:unconfined'], tmpfs: ['/home:mode=1777']}")
    more = ("env", "DEVENV_DATA_HOME=/home/d", "DEVENV_RUNTIME_DIR=/home/r", "HOME=/home")
    said = inner("doctor", before=more).stdout
    assert "services see the processes around devenv" in said
    assert "systempaths=unconfined" in said
    inner("up", "-d", before=more)
    assert "from within" in inner("logs", "one", before=more).stdout
    assert inner("exec", "-T", "one", "id", "-u", before=more).stdout == "0\n"
    inner("down", "-t", "0", before=more)


# -- as an ordinary user ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyone", ["dvrange"], indirect=True)
@machine.needs_cgroup_v1
def test_what_an_ordinary_user_cannot_have_is_told(anyone: runner.Devenv, project: projects.Project) -> None:
    devices = 'devices: ["/dev/zero:/dev/mine", "/dev/console:/dev/other"]'
    project.write(INNER.replace("stop_signal: SIGKILL", f"stop_signal: SIGKILL\n        {devices}"))
    said = anyone("up", "-d").stderr
    assert "the device `/dev/console` is there and can't be opened" in said
    assert "/dev/zero" not in said
    assert anyone.inside("one", "head -c 2 /dev/mine | wc -c; stat -c %t:%T /dev/mine").split() == ["2", "1:5"]
    said = anyone("pause", code=None).stderr
    assert "without a cgroup of its own can't be paused: cgroup v1 can't be delegated" in said
    assert anyone.ps()["inner-one-1"]["State"] == "running"
