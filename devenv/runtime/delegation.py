"""A cgroup of an ordinary user's own, from systemd's user session: a scope with ``Delegate=yes``.

A shell of ssh or of a console is in a session's scope, which belongs to root: nothing can be made beneath it. The
user's systemd hands subtrees out over the user's bus (StartTransientUnit of ``org.freedesktop.systemd1``). A project's
engine asks for ``devenv-<project>.scope`` and moves into it; later engines of the project join the one that is there,
because its containers are beneath it.
"""

from __future__ import annotations

import os

from devenv.linux import dbus
from devenv.runtime import cgroup

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = (_SYSTEMD, "/org/freedesktop/systemd1", f"{_SYSTEMD}.Manager")
_NO_LIMIT = (1 << 64) - 1


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
        return lack()
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
    bus.subscribe(f"type='signal',interface='{_SYSTEMD}.Manager',member='JobRemoved'")
    properties = [
        ("Description", dbus.Variant("s", "devenv: containers of a project")),
        ("PIDs", dbus.Variant("au", [pid])),
        ("Delegate", dbus.Variant("b", True)),
        # A share of the user's is meant for programs, not for all containers of a project.
        ("TasksMax", dbus.Variant("t", _NO_LIMIT)),
        ("CollectMode", dbus.Variant("s", "inactive-or-failed")),
    ]
    try:
        [job] = bus.call(*_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", properties, [])
    except dbus.BusError as exc:
        if exc.name != f"{_SYSTEMD}.UnitExists":
            raise
        bus.call(*_MANAGER, "AttachProcessesToUnit", "ssau", name, "", [pid])
        return
    for signal in bus.signals():
        if signal.member == "JobRemoved" and len(signal.body) == 4 and signal.body[1] == job:
            if signal.body[3] != "done":
                raise OSError(5, f"`{name}`: {signal.body[3]}")
            return
