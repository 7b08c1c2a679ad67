"""A systemd of our own to ask for scopes: a user manager with a bus, in cgroups and a mount namespace of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

from devenv.linux import dbus
from tests.support import cgroups, polling

PROGRAM = "/lib/systemd/systemd"
# It wants a machine that was booted with it, and would take all of a root cgroup's processes into its own.
_SCRIPT = """
mount --make-rprivate / && mount -t tmpfs none /run/systemd && mkdir /run/systemd/system
for folder in $FOLDERS; do echo 0 > $folder/cgroup.procs; done
dbus-daemon --session --address=unix:path=$XDG_RUNTIME_DIR/bus --nofork &
exec $PROGRAM --user
"""


def missing() -> str:
    """Why there can't be one here; empty when there can."""
    for name in (PROGRAM, "dbus-daemon", "unshare"):
        if shutil.which(name) is None:
            return f"needs systemd: there is no {name}"
    return "" if os.geteuid() == 0 and os.path.isdir("/run/systemd") else "needs systemd, and root"


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[str]:
    """The path of its bus."""
    folder.mkdir(mode=0o700)
    name = f"devenv-test-systemd-{os.getpid()}"
    env = dict(os.environ) | {
        "XDG_RUNTIME_DIR": str(folder),
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={folder}/bus",
        "FOLDERS": " ".join(str(each) for each in _make(name)),
        "PROGRAM": PROGRAM,
    }
    with open(folder / "log", "wb") as log:
        words = ["unshare", "--mount", "sh", "-c", _SCRIPT]
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        try:
            polling.eventually(lambda: _answers(f"{folder}/bus"))
        except AssertionError:
            raise AssertionError((folder / "log").read_text()) from None
        yield f"{folder}/bus"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _remove(name)


def _make(name: str) -> list[pathlib.Path]:
    top = pathlib.Path("/sys/fs/cgroup")
    bases = [top] if (top / "cgroup.controllers").exists() else [each for each in top.iterdir() if each.is_mount()]
    for base in bases:
        (base / name).mkdir()
        for file in ("cpuset.cpus", "cpuset.mems") if (base / name / "tasks").exists() else ():
            if (base / file).exists():
                (base / name / file).write_text((base / file).read_text())
    return [base / name for base in bases]


def _remove(name: str) -> None:
    """With all that runs in there: the manager's own, and its scopes."""
    for folder in cgroups.folders(name):
        below = sorted((path.parent for path in folder.rglob("cgroup.procs")), key=lambda each: -len(each.parts))
        for each in below:
            pids = (each / "cgroup.procs").read_text().split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            polling.eventually(functools.partial(_gone, each))


def _gone(folder: pathlib.Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def _answers(path: str) -> bool:
    try:
        with dbus.Bus(path) as bus:
            return bool(property_of(bus, "/org/freedesktop/systemd1", "Manager", "Version"))
    except OSError:
        return False


def property_of(bus: dbus.Bus, path: str, interface: str, name: str) -> object:
    service = "org.freedesktop.systemd1"
    [found] = bus.call(service, path, "org.freedesktop.DBus.Properties", "Get", "ss", f"{service}.{interface}", name)
    return found.value


def unit(bus: dbus.Bus, name: str) -> str | None:
    """Its object's path, if it is there."""
    service = "org.freedesktop.systemd1"
    try:
        [path] = bus.call(service, "/org/freedesktop/systemd1", f"{service}.Manager", "GetUnit", "s", name)
    except dbus.BusError:
        return None
    return str(path)
