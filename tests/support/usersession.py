"""A systemd of a user's own, on a D-Bus of a user's own, for the extra users of the tests, and only v2 in sight.

As logind would start it, only that the machine need not run systemd itself: in a mount namespace that looks as if it
did, and in which /sys/fs/cgroup is the unified hierarchy, whatever it is outside.

    <unified>/dvt-<user>/          the user's, as `user-1000.slice` would be root's
        manager/                   systemd --user and all that it makes
        session/                   where the user's commands begin
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator

from tests.support import isolation
from tests.support.polling import eventually

SYSTEMD = "/usr/lib/systemd/systemd"
_LOOKS = (
    "umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && "
    "mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system && "
    "echo ready && exec sleep infinity"
)


def lack() -> str:
    """What isn't here to have one, or ""."""
    if not os.path.exists(SYSTEMD) or shutil.which("dbus-daemon") is None:
        return "needs systemd and dbus-daemon"
    return "" if _unified() else "needs cgroup v2 to be mounted somewhere"


def _unified() -> str | None:
    with open("/proc/self/mountinfo") as file:
        found = (line.split() for line in file)
        return next((fields[4] for fields in found if fields[fields.index("-") + 1] == "cgroup2"), None)


@contextlib.contextmanager
def running(user: isolation.User, command: str, folder: pathlib.Path) -> Iterator[str]:
    """Gives a program that does what ``command`` does, as ``user`` in a session of theirs; to be run by root."""
    top = pathlib.Path(_unified() or "", f"dvt-{user.name}-{os.getpid()}")
    environment = {**user.environment(), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={user.runtime}/bus"}
    with contextlib.ExitStack() as stack:
        for name in ("manager", "session"):
            (top / name).mkdir(parents=True)
        stack.callback(_remove, top)
        subprocess.run(["chown", "-R", f"{user.uid}:{user.uid}", str(top)], check=True)
        holder = stack.enter_context(
            subprocess.Popen(["unshare", "-m", "sh", "-c", _LOOKS], stdout=subprocess.PIPE, text=True)
        )
        stack.callback(holder.kill)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"

        def line(place: str, *words: str) -> str:
            become = ["setpriv", "--reuid", str(user.uid), "--regid", str(user.uid), "--clear-groups", "env"]
            become += [f"{name}={value}" for name, value in environment.items()]
            enter = ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "sh", "-c", 'cd "$0" && exec "$@"']
            program = f'{shlex.join(enter)} "$PWD" {shlex.join([*become, *words])}'
            return f"echo $$ >{top}/{place}/cgroup.procs && exec {program}"

        def started(place: str, *words: str) -> None:
            process = subprocess.Popen(
                ["sh", "-c", line(place, *words)], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.enter_context(process)
            stack.callback(process.kill)

        bus = environment["DBUS_SESSION_BUS_ADDRESS"]
        started("session", "dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={bus}")
        eventually(lambda: os.path.exists(f"{user.runtime}/bus"))
        started("manager", SYSTEMD, "--user", "--unit=basic.target")
        asked = line("session", "busctl", "--user", "status", "org.freedesktop.systemd1")
        eventually(lambda: subprocess.run(["sh", "-c", asked], cwd="/", capture_output=True).returncode == 0, 30.0)
        program = folder / "as-user"
        program.write_text(f'#!/bin/sh\n{line("session", command)} "$@"\n')
        program.chmod(0o755)
        yield str(program)


def _remove(top: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        (top / "cgroup.kill").write_text("1")

    def gone() -> bool:
        try:
            for parent, _, _ in os.walk(top, topdown=False):
                os.rmdir(parent)
        except OSError:
            return False  # what was killed is not gone yet
        return True

    eventually(gone)
