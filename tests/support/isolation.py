"""The session's own namespaces, folder and users: nothing that a test does reaches the machine it runs on.

As root the whole session moves into a network namespace of its own (with ``lo`` and a pretended uplink) and a mount
namespace of its own before the first test; every child inherits both. Extra users exist in this mount namespace only:
copies of /etc/passwd, group, subuid and subgid with their lines are mounted over the files, so that newuidmap and
everybody else sees them and there is nothing to remove afterwards.

    /tmp/dvt-XXXXXX/           0755, the session's folder; short, since sockets live below it
       etc/                    the mounted copies
       home/NAME  run/NAME     of each extra user
       install/                devenv and its interpreter where every user can read them
       1/ 2/ …                 one for each devenv that a test makes: d (data), r (run)
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from typing import NamedTuple

REPOSITORY = pathlib.Path(__file__).parents[2]

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MS_REC = 16384
_MS_PRIVATE = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


class User(NamedTuple):
    name: str
    uid: int
    home: str
    runtime: str
    ranges: bool

    def environment(self) -> dict[str, str]:
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "XDG_RUNTIME_DIR": self.runtime}


class Session(NamedTuple):
    folder: str
    users: dict[str, User]

    @property
    def install(self) -> str:
        return f"{self.folder}/install"


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def _mount(source: str, target: str, flags: int, kind: str = "none") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    _check(result, target)


def prefix(controller: int) -> str:
    """What the folders of the workers of one pytest-xdist begin with."""
    return f"dvt-{controller:x}-"


def enter(beginning: str = "dvt-") -> Session:
    """Make the session's surroundings. As an ordinary user that is the folder and the limits alone."""
    # What shells grant, and the machine of a test often exceeds by far.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    folder = tempfile.mkdtemp(prefix=beginning, dir="/tmp")
    os.chmod(folder, 0o755)
    if os.geteuid() != 0:
        return Session(folder, {})
    _unshare(_CLONE_NEWNS | _CLONE_NEWNET)
    _mount("none", "/", _MS_REC | _MS_PRIVATE)
    _connect()
    _open_tun()
    return Session(folder, _users(folder))


def leave(session: Session) -> None:
    for name in ("passwd", "group", "subuid", "subgid"):
        if session.users and os.path.exists(f"{session.folder}/etc/{name}"):
            _libc.umount2(f"/etc/{name}".encode(), 2)
    for name in ("python", "src/devenv", "src/templates", "site"):
        _libc.umount2(f"{session.install}/{name}".encode(), 2)
    shutil.rmtree(session.folder, ignore_errors=True)


def _connect() -> None:
    """lo, and an interface with a default route as a machine with a network has one: it leads nowhere."""
    commands = (
        "link set lo up",
        "link add uplink type veth peer name uplink-far",
        "addr add 198.51.100.2/24 dev uplink",
        "link set uplink up",
        "link set uplink-far up",
        "route add default via 198.51.100.1",
    )
    for command in commands:
        done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
        if done.returncode != 0 and command.startswith("link set lo"):
            raise RuntimeError(f"ip {command}: {done.stderr.strip()}")


def _open_tun() -> None:
    """Distributions let everybody open /dev/net/tun, bare machines root alone; it is what pasta needs."""
    if os.path.isdir("/dev/net"):
        _mount("tmpfs", "/dev/net", 0, "tmpfs")
        os.mknod("/dev/net/tun", stat.S_IFCHR | 0o666, os.makedev(10, 200))
        os.chmod("/dev/net/tun", 0o666)


def _users(folder: str) -> dict[str, User]:
    # Limits, keyrings and kill(-1) go by number: two sessions at once shall not share one.
    first = 61000 + 2 * (os.getpid() % 2000)
    users = {}
    for number, (name, ranges) in enumerate((("dvrange", True), ("dvplain", False))):
        user = User(name, first + number, f"{folder}/home/{name}", f"{folder}/run/{name}", ranges)
        for path in (user.home, user.runtime):
            os.makedirs(path)
            os.chmod(path, 0o700)
            os.chown(path, user.uid, user.uid)
        users[name] = user
    start = 300_000_000 + 65536 * (os.getpid() % 20_000)
    passwd = "".join(f"{u.name}:x:{u.uid}:{u.uid}::{u.home}:/bin/sh\n" for u in users.values())
    group = "".join(f"{u.name}:x:{u.uid}:\n" for u in users.values())
    _cover("passwd", passwd, folder)
    _cover("group", group, folder)
    for name in ("subuid", "subgid"):
        _cover(name, f"dvrange:{start}:65536\n", folder)
    return users


def _cover(name: str, lines: str, folder: str) -> None:
    os.makedirs(f"{folder}/etc", exist_ok=True)
    original, copy = f"/etc/{name}", f"{folder}/etc/{name}"
    if not os.path.exists(original):
        pathlib.Path(original).touch(mode=0o644)  # newuidmap looks there and nowhere else
    shutil.copyfile(original, copy)
    with open(copy, "a") as file:
        file.write(lines)
    os.chmod(copy, 0o644)
    _mount(copy, original, _MS_BIND)


def _readable_by_all(path: str) -> bool:
    """Whether another user gets to ``path``, through every folder above it."""
    real = pathlib.Path(path).resolve()
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (real, *real.parents))


def install(session: Session) -> str:
    """The ``devenv`` command for extra users: checkout and interpreter may lie below a folder closed to them."""
    command = f"{session.install}/venv/bin/devenv"
    if os.path.exists(command):
        return command
    interpreter = os.path.realpath(sys.executable)
    system = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    if not _readable_by_all(interpreter) and os.path.exists(system):
        # Of the same version, so the same packages do.
        interpreter = os.path.realpath(system)
    if not _readable_by_all(interpreter):
        relative = os.path.relpath(interpreter, os.path.realpath(sys.base_prefix))
        _bind(os.path.realpath(sys.base_prefix), f"{session.install}/python")
        interpreter = f"{session.install}/python/{relative}"
    _bind(str(REPOSITORY / "devenv"), f"{session.install}/src/devenv")
    _bind(str(REPOSITORY / "templates"), f"{session.install}/src/templates")
    site = next(path for path in sys.path if path.endswith("site-packages") and path.startswith(sys.prefix))
    _bind(site, f"{session.install}/site")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    packages = pathlib.Path(f"{session.install}/venv/lib/python{version}/site-packages")
    packages.mkdir(parents=True)
    (packages / "devenv.pth").write_text(f"{session.install}/src\n{session.install}/site\n")
    binaries = pathlib.Path(f"{session.install}/venv/bin")
    binaries.mkdir()
    (binaries / "python").symlink_to(interpreter)
    home = os.path.dirname(interpreter)
    pathlib.Path(f"{session.install}/venv/pyvenv.cfg").write_text(f"home = {home}\nversion = {version}\n")
    script = f"#!{binaries}/python\nfrom devenv import entry\n\nentry.main()\n"
    (binaries / "devenv").write_text(script)
    (binaries / "devenv").chmod(0o755)
    return command


def _bind(source: str, target: str) -> None:
    os.makedirs(target)
    _mount(source, target, _MS_BIND | _MS_REC)
