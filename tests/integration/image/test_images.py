"""Images as they look when mounted: as root, as a user with a range of ids, as a user with one; against umoci."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests import ocilayout
from tests.integration.image import showing
from tests.ocilayout import file, folder, hardlink, link, node
from tests.support import isolation, machine

pytestmark = pytest.mark.root

# cap_net_raw=ep, as setcap(8) writes it: VFS_CAP_REVISION_2 and the flag "effective".
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)

LAYERS: list[ocilayout.Layer] = [
    {
        "./": folder(0o755, mtime=1_500_000_000),
        "bin": folder(),
        "bin/busybox": file("#!", mode=0o4755),
        "bin/ping": file("ping", mode=0o755, xattrs={"security.capability": CAPABILITY, "user.note": b"kept"}),
        "bin/sh": link("busybox"),
        "bin/ls": hardlink("bin/busybox"),
        "etc": folder(0o755),
        "etc/owned": file("x", uid=33, gid=34, mode=0o640, mtime=1_400_000_000.25),
        "etc/gone": file("x"),
        "tmp": folder(0o1777),
        "closed": folder(0o000, uid=1000, gid=1000),
        "closed/in": file("x", uid=1000, gid=1000),
        "dev": folder(),
        "dev/null": node("c", 1, 3, mode=0o666),
        "dev/disk": node("b", 7, 0, mode=0o660, gid=6),
        "run": folder(),
        "run/pipe": node("p", mode=0o600, uid=1),
        "old": folder(0o700, uid=5),
        "old/a": "a",
        "old/b": "b",
        "old/deep": folder(),
        "old/deep/c": "c",
        "replaced": folder(),
        "replaced/x": "x",
        "whole": folder(),
        "whole/x": "x",
        "lib": link("usr/lib"),
        "usr": folder(),
        "usr/lib": folder(0o2755, gid=50),
    },
    {
        "etc/gone": None,
        "old/.wh..wh..opq": file(),
        "old/new": "new",
        "replaced": "now a file",
        "whole": None,
        "lib/added": file("through a link", uid=2),
        "etc": folder(0o711),
    },
    {
        "whole": folder(0o750),
        "whole/y": "y",
        "old/deep": folder(),
        "old/deep/d": "d",
        "etc/owned": file("changed", uid=34, gid=33, mode=0o600),
        "nothing": None,
    },
]


@pytest.fixture
def show(short_path: pathlib.Path, surroundings: isolation.Session) -> Callable[..., dict[str, Any]]:
    """show("oci:/path") as root; show(…, user) as that user, in a user namespace where they are root."""
    numbers = iter(range(100))

    def run(reference: str, user: isolation.User | None = None) -> dict[str, Any]:
        data = f"{short_path}/d{next(numbers)}"
        os.makedirs(data, mode=0o700, exist_ok=True)
        program = f"{short_path}/showing.py"
        shutil.copy(showing.__file__, program)
        options: dict[str, Any] = {"cwd": "/", "env": {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}}
        if user is None:
            options["env"]["PYTHONPATH"] = str(isolation.REPOSITORY)
            argv = ["unshare", "-m", sys.executable]
        else:
            os.chown(data, user.uid, user.uid)
            python = f"{os.path.dirname(isolation.install(surroundings))}/python"
            argv = ["unshare", "-r", "-m", *(["--map-auto"] if user.ranges else []), python]
            options |= {"user": user.uid, "group": user.uid, "extra_groups": []}
        done = subprocess.run([*argv, program, data, reference], capture_output=True, text=True, **options)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert result["stage"] == ([] if reference != "host:" else ["host.lock"])
        return result

    return run


@pytest.fixture
def layout(short_path: pathlib.Path) -> str:
    path = short_path / "layout"
    ocilayout.write_layout(path, layers=LAYERS)
    return str(path)


def names(result: dict[str, Any]) -> set[str]:
    return set(result["found"])


EXPECTED = {
    ".", "bin", "bin/busybox", "bin/ping", "bin/sh", "bin/ls", "etc", "etc/owned", "tmp", "closed", "closed/in", "dev",
    "dev/null", "dev/disk", "run", "run/pipe", "old", "old/new", "old/deep", "old/deep/d", "replaced", "whole",
    "whole/y", "lib", "usr", "usr/lib", "usr/lib/added",
}  # fmt: skip


def test_as_root(show: Callable[..., dict[str, Any]], layout: str) -> None:
    result = show(f"oci:{layout}")
    found = result["found"]
    assert names(result) == EXPECTED
    assert found["etc"]["mode"] == "0o40711"
    assert found["old"] | {"xattrs": {}} == {"mode": "0o40700", "owner": [5, 0], "xattrs": {}}
    assert found["whole"]["mode"] == "0o40750"
    assert found["usr/lib"]["mode"] == "0o42755"
    assert found["etc/owned"]["owner"] == [34, 33]
    assert found["bin/busybox"]["mode"] == "0o104755"
    assert found["bin/busybox"]["same"] == ["bin/busybox", "bin/ls"]
    assert found["bin/ping"]["xattrs"] == {"security.capability": CAPABILITY.hex(), "user.note": b"kept".hex()}
    assert found["dev/null"]["device"] == os.makedev(1, 3)
    assert found["run/pipe"]["owner"] == [1, 0]
    assert result["notes"] == []
    assert result["again"] < 0.05


def test_as_a_user_with_ids(show: Callable[..., dict[str, Any]], layout: str, rootless_user: isolation.User) -> None:
    as_root, result = show(f"oci:{layout}"), show(f"oci:{layout}", rootless_user)
    devices = {"dev/null", "dev/disk"}
    assert names(result) == EXPECTED - devices
    assert result["found"] == {name: entry for name, entry in as_root["found"].items() if name not in devices}
    assert result["digest"] == as_root["digest"]
    assert result["notes"] == ["device nodes are left out: they can't be made without root (2 times)"]


def test_as_a_user_with_one_id(show: Callable[..., dict[str, Any]], layout: str, plain_user: isolation.User) -> None:
    result = show(f"oci:{layout}", plain_user)
    assert names(result) == EXPECTED - {"dev/null", "dev/disk"}
    assert {tuple(entry["owner"]) for entry in result["found"].values()} == {(0, 0)}
    assert result["found"]["bin/busybox"]["mode"] == "0o104755"
    assert any("owners could not be kept" in note for note in result["notes"])


def umoci(*arguments: str) -> None:
    done = subprocess.run(["umoci", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@machine.needs_binary("umoci")
def test_equal_to_umoci(show: Callable[..., dict[str, Any]], layout: str, short_path: pathlib.Path) -> None:
    umoci("unpack", "--image", f"{layout}:latest", f"{short_path}/bundle")
    theirs = showing.look(f"{short_path}/bundle/rootfs")
    ours = show(f"oci:{layout}")["found"]
    # The root is that of the container's own layer when it is mounted.
    assert ours.keys() == theirs.keys()
    assert {name: entry for name, entry in ours.items() if entry != theirs[name] and name != "."} == {}


@machine.needs_binary("umoci")
def test_an_image_that_umoci_made(show: Callable[..., dict[str, Any]], short_path: pathlib.Path) -> None:
    image = f"{short_path}/made:v1"
    umoci("init", "--layout", f"{short_path}/made")
    umoci("new", "--image", image)
    umoci("unpack", "--image", image, f"{short_path}/b1")
    root = pathlib.Path(f"{short_path}/b1/rootfs")
    for name in ("etc/a", "etc/b", "srv/www/index.html", "deep/er/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    os.chown(root / "etc/a", 12, 13)
    os.setxattr(root / "etc/b", "user.k", b"v")
    (root / "link").symlink_to("/etc/a")
    os.link(root / "etc/b", root / "hard")
    umoci("repack", "--refresh-bundle", "--image", image, f"{short_path}/b1")
    shutil.rmtree(root / "srv")
    os.unlink(root / "etc/a")
    (root / "deep").rename(root / "moved")
    umoci("repack", "--refresh-bundle", "--image", image, f"{short_path}/b1")
    umoci("unpack", "--image", image, f"{short_path}/b2")
    theirs = showing.look(f"{short_path}/b2/rootfs")
    ours = show(f"oci:{short_path}/made:v1")["found"]
    del theirs["."], ours["."]
    assert ours == theirs
    assert "moved/er/x" in ours
    assert "srv" not in ours


@machine.needs_binary("skopeo")
def test_archives_that_skopeo_made(show: Callable[..., dict[str, Any]], layout: str, short_path: pathlib.Path) -> None:
    expected = show(f"oci:{layout}")
    for target in (f"oci-archive:{short_path}/oci.tar:v1", f"docker-archive:{short_path}/docker.tar:x/y:1"):
        command = ["skopeo", "--insecure-policy", "--tmpdir", str(short_path), "copy", f"oci:{layout}:latest", target]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        result = show(target)
        assert result["found"] == expected["found"]
        if target.startswith("oci"):
            assert result["digest"] == expected["digest"]


@pytest.mark.parametrize("name", ["root", "dvrange", "dvplain"])
def test_the_machine_itself(show: Callable[..., dict[str, Any]], surroundings: isolation.Session, name: str) -> None:
    result = show("host:", surroundings.users.get(name))
    assert {"etc/passwd", "etc/nsswitch.conf", "tmp", "usr", "home", "root"} <= names(result)
    assert "etc/shadow" not in names(result)
    assert result["found"]["tmp"]["mode"] == "0o41777"
    assert ["/usr", ["/usr"]] in result["overlays"]
    assert {tuple(entry["owner"]) for entry in result["found"].values()} == {(0, 0)}
    assert result["again"] < 0.05


@machine.needs_binary("busybox")
def test_a_busybox_that_runs(short_path: pathlib.Path, show: Callable[..., dict[str, Any]]) -> None:
    ocilayout.busybox_layout(short_path / "bb")
    found = show(f"oci:{short_path}/bb")["found"]
    assert found["bin/sh"]["link"] == "busybox"
    assert found["srv/index.html"]["owner"] == [33, 33]


@pytest.mark.parametrize("moment", [0.002, 0.01, 0.03, 0.06])
def test_a_kill_leaves_what_the_next_one_sweeps(
    short_path: pathlib.Path, show: Callable[..., dict[str, Any]], moment: float
) -> None:
    layers = [{f"d{layer}/{number}": "x" for number in range(1500)} for layer in range(3)]
    ocilayout.write_layout(short_path / "l", layers=layers)
    data = f"{short_path}/d0"
    os.mkdir(data, 0o700)
    code = (
        "import sys; from devenv.image import store; from devenv.util import paths; print('ready', flush=True);"
        f"store.ImageStore(paths.Paths({data!r}, 'r')).resolve('oci:l', base={str(short_path)!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=isolation.REPOSITORY, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.kill()
    process.wait()
    process.stdout.close()
    result = show(f"oci:{short_path}/l")
    assert len(result["found"]) == 1 + 3 * 1501
