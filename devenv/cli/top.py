"""``devenv top``: the processes of each container, seen from the host."""

from __future__ import annotations

import os
import pwd
import time

import typer

from devenv.cli import context, inventory, options, table, terminal


def command(ctx: typer.Context, services: options.Services = None) -> None:
    """Show the processes of services."""
    project = context.find(ctx.obj)
    wanted = project.check_services(services)
    containers = inventory.of_services(inventory.load(project.where, project.identity.id), wanted)
    running = [item for item in containers if item.pid is not None and item.state in {"running", "paused"}]
    by_namespace: dict[str, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (space := _namespace(int(name))):
            by_namespace.setdefault(space, []).append(int(name))
    for item in running:
        assert item.pid is not None
        pids = by_namespace.get(_namespace(item.pid), [])
        rows = [row for pid in sorted(pids) if (row := _process(pid)) is not None]
        print(terminal.visible(item.record.name))
        print(table.render(("UID", "PID", "PPID", "STIME", "TIME", "CMD"), rows))


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, ...] | None:
    """One row, or None when the process has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
        with open("/proc/uptime", "rb") as file:
            uptime = float(file.read().split()[0])
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    # proc_pid_stat(5), counted from after the name: ppid 1, utime 11, stime 12, starttime 19.
    fields = tail.split()
    ticks = os.sysconf("SC_CLK_TCK")
    spent = (int(fields[11]) + int(fields[12])) // ticks
    began = time.localtime(time.time() - uptime + int(fields[19]) / ticks)
    name = head.partition(b"(")[2].decode(errors="backslashreplace")
    text = b" ".join(words).decode(errors="backslashreplace") or f"[{name}]"
    clock = f"{spent // 3600:02}:{spent // 60 % 60:02}:{spent % 60:02}"
    return (_user(uid), str(pid), fields[1].decode(), time.strftime("%H:%M", began), clock, text)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
