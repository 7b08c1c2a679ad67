from __future__ import annotations

import os
import pathlib
import shutil
import stat
import time

import pytest

from devenv.image import host
from devenv.image import image as image_module
from devenv.util import paths

SECRETS = (
    "shadow", "gshadow", "shadow-", "passwd-", "machine-id", "hostname", "sudoers", "ssh/ssh_host_ed25519_key",
    "ssl/private/server.key", "ssl/server.key", "pip.conf", "npmrc", "gitconfig", "environment", "krb5.keytab",
    "security/opasswd", "docker/daemon.json", "fstab", "crypttab", "wireguard/wg0.conf", "NetworkManager/x",
)  # fmt: skip


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> host.Host:
    root = tmp_path / "machine"
    for name in (
        "usr/bin",
        "usr/lib",
        "opt/tool",
        "etc/ssl/certs",
        "etc/pam.d",
        "home/jane",
        "lib32",
        "var/lib/secret",
    ):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "lib").symlink_to("usr/lib")
    files = {
        "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12.1"\n',
        "etc/passwd": "root:x:0:0:Root,Room 1:/root:/bin/bash\ndaemon:x:1:1::/:/bin/false\n"
        "jane:x:1000:1000:Jane Doe:/home/jane:/bin/zsh\nnobody:x:65534:65534::/:/bin/false\nbroken\n",
        "etc/group": "root:x:0:\nsudo:x:27:jane,daemon\njane:x:1000:\nnogroup:x:65534:\n",
        "etc/nsswitch.conf": "hosts: files dns\n",
        "etc/ssl/certs/ca.pem": "certificate",
        "etc/localtime": "TZ",
        "etc/pam.d/su": "x",
        "etc/services": "http 80/tcp\n",
        **{f"etc/{name}": "secret" for name in SECRETS},
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    (root / "etc/pam.d/closed").write_text("secret")
    (root / "etc/pam.d/closed").chmod(0o640)
    (root / "etc/ssl/closed").mkdir(0o750)
    (root / "etc/ssl/closed/in").write_text("secret")
    os.mkfifo(root / "etc/pam.d/fifo")
    return host.Host(str(root))


@pytest.fixture
def where(tmp_path: pathlib.Path) -> paths.Paths:
    found = paths.Paths(str(tmp_path / "d"), str(tmp_path / "r"))
    paths.prepare(found)
    return found


def root_of(image: image_module.Image) -> pathlib.Path:
    return pathlib.Path(image.lower[0])


def test_what_it_holds(where: paths.Paths, machine: host.Host) -> None:
    image = host.resolve(where, machine)
    root = root_of(image)
    assert os.readlink(root / "bin") == "usr/bin"
    assert (root / "lib32").is_dir()
    assert (root / "etc/nsswitch.conf").read_text() == "hosts: files dns\n"
    assert (root / "etc/ssl/certs/ca.pem").read_text() == "certificate"
    assert os.readlink(root / "etc/os-release") == "../usr/lib/os-release"
    assert os.readlink(root / "var/run") == "/run"
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("home", 0o755), ("etc", 0o755)):
        assert stat.S_IMODE((root / name).stat().st_mode) == mode
    for name in ("home", "root", "srv", "opt", "usr", "var/lib/misc", "tmp"):
        assert os.listdir(root / name) == []
    for name in ("hosts", "hostname", "resolv.conf"):
        assert (root / "etc" / name).read_text() == ""
    assert dict(image.overlays) == {f"/{name}": (machine.path(name),) for name in ("usr", "opt", "lib32")}
    assert image.config.cmd == ("/bin/sh",)
    assert os.listdir(f"{where.data}/stage") == ["host.lock"]


def test_what_it_hides(where: paths.Paths, machine: host.Host) -> None:
    root = root_of(host.resolve(where, machine))
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                assert "secret" not in pathlib.Path(path).read_text()
    assert not (root / "etc/pam.d/fifo").exists()
    for name in ("shadow", "machine-id", "sudoers", "ssh"):
        assert not (root / "etc" / name).exists()


def test_users_are_the_systems(where: paths.Paths, machine: host.Host) -> None:
    root = root_of(host.resolve(where, machine))
    assert (root / "etc/passwd").read_text() == (
        "root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1::/:/bin/false\nnobody:*:65534:65534::/:/bin/false\n"
    )
    assert (root / "etc/group").read_text() == "root:*:0:\nsudo:*:27:daemon\nnogroup:*:65534:\n"


def test_the_umask_does_not_matter(where: paths.Paths, machine: host.Host) -> None:
    before = os.umask(0o077)
    try:
        root = root_of(host.resolve(where, machine))
    finally:
        os.umask(before)
    for folder, _, files in os.walk(root):
        if os.path.basename(folder) != "root":
            assert os.stat(folder).st_mode & 0o555 == 0o555, folder
        for name in files:
            assert os.lstat(os.path.join(folder, name)).st_mode & 0o444 == 0o444


def test_it_is_reused_until_the_machine_changes(where: paths.Paths, machine: host.Host) -> None:
    first = host.resolve(where, machine)
    assert host.resolve(where, machine) == first
    # A file of no interest, and a touched passwd: looked at again, nothing made.
    pathlib.Path(machine.path("etc/fstab2")).write_text("")
    pathlib.Path(machine.path("etc/passwd")).touch()
    assert host.resolve(where, machine) == first
    pathlib.Path(machine.path("etc/services")).write_text("https 443/tcp\n")
    second = host.resolve(where, machine)
    assert (root_of(second) / "etc/services").read_text() == "https 443/tcp\n"
    assert (root_of(first) / "etc/services").read_text() == "http 80/tcp\n"
    assert second.digest == first.digest
    pathlib.Path(machine.path("etc/ssl/certs/new.pem")).symlink_to("ca.pem")
    third = host.resolve(where, machine)
    assert os.path.islink(root_of(third) / "etc/ssl/certs/new.pem")
    shutil.rmtree(f"{where.data}/layers")
    assert root_of(host.resolve(where, machine)).is_dir()


def test_the_id_is_the_releases(where: paths.Paths, machine: host.Host) -> None:
    first = host.resolve(where, machine).digest
    release = pathlib.Path(machine.path("usr/lib/os-release"))
    release.write_text('ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12.2"\n')
    assert host.resolve(where, machine).digest == first
    release.write_text('ID=debian\nVERSION_ID="13"\n')
    assert host.resolve(where, machine).digest != first


def test_this_machine(where: paths.Paths) -> None:
    image = host.resolve(where)
    assert "/usr" in dict(image.overlays)
    assert not (root_of(image) / "etc/shadow").exists()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        host.resolve(where)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05  # half a millisecond, on a quiet machine
