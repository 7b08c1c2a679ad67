"""A cgroup of an ordinary user's own, from systemd's user session: a scope with ``Delegate=yes``.

A shell of ssh or of a console is in a session's scope, which belongs to root: nothing can be made beneath it. The
user's systemd hands subtrees out over the user's bus (StartTransientUnit of ``org.freedesktop.systemd1``). A project's
engine asks for ``devenv-<project>.scope`` and moves into it; later engines of the project join the one that is there,
because its containers are beneath it.
"""

from __future__ import annotations

import os

from devenv.linux import dbus
from devenv.runtime import cgroup, systemd


def unit(project_id: str) -> str:
    """systemd's names know letters, digits and `:-_.` (systemd.unit(5))."""
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in project_id)
    return f"devenv-{safe}.scope"


def enter(project_id: str) -> str:
    """Move the calling process into a delegated cgroup, if it needs one. Returns why it could not be had, or ""."""
    if not cgroup.could_be_handed_over():
        return ""
    address = dbus.session_address()
    if address is None:
        # One that was delegated by other means does.
        return "" if cgroup.place().version == 2 else lack()
    try:
        with dbus.Bus(address) as bus:
            _ask(bus, unit(project_id), os.getpid())
    except OSError as exc:
        return f"systemd's user session gives no cgroup: {exc.strerror}"
    cgroup.moved()
    return ""


def lack() -> str:
    """Why systemd can't even be asked, or ""."""
    return "" if dbus.session_address() else "there is no user bus: install `dbus-user-session` and log in again"


def _ask(bus: dbus.Bus, name: str, pid: int) -> None:
    properties = [
        ("Description", dbus.Variant("s", "devenv: containers of a project")),
        ("PIDs", dbus.Variant("au", [pid])),
        ("Delegate", dbus.Variant("b", True)),
        # A share of the user's is meant for programs, not for all containers of a project.
        ("TasksMax", dbus.Variant("t", systemd.NO_LIMIT)),
        ("CollectMode", dbus.Variant("s", "inactive-or-failed")),
    ]
    try:
        systemd.start_scope(bus, name, properties)
    except dbus.BusError as exc:
        if not systemd.exists(exc):
            raise
        systemd.attach(bus, name, pid)
