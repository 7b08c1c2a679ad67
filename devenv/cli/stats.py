"""``devenv stats``: what containers use. Read from the kernel by this very process, so nothing else has to run."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from devenv.cli import context, formats, inventory, options, table, terminal
from devenv.runtime import usage

# Long enough for a share of the processor's time to mean something, short enough to wait for.
_FIRST_WINDOW = 0.4
_WINDOW = 1.0
_HEADINGS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
    "CPUPressure": "CPU PRESSURE",
    "MemPressure": "MEM PRESSURE",
    "IOPressure": "IO PRESSURE",
}
_PRESSURES = {"CPUPressure": "cpu", "MemPressure": "memory", "IOPressure": "io"}
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\033[H", "\033[K", "\033[J"

Samples = dict[str, usage.Usage]  # by container id


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also containers that do not run")] = False,
    format: options.TableFormat = "table",
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Once, instead of until Ctrl-C")] = False,
    no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Do not cut ids")] = False,
) -> None:
    """Show what containers use of processors, memory, network and disks."""
    shape = options.table_format(format)
    project = context.find(ctx.obj)
    wanted = project.check_services(services)

    def look() -> tuple[list[inventory.Container], Samples]:
        containers = inventory.of_services(inventory.load(project.where, project.identity.id), wanted)
        return [item for item in containers if every or item.state in {"running", "paused"}], _sample(containers)

    live = not no_stream and shape is options.Format.TABLE and terminal.is_terminal(sys.stdout)
    _, before = look()
    window = _FIRST_WINDOW
    while True:
        time.sleep(window)
        containers, now = look()
        rows = [_fields(item, before.get(item.record.id), now.get(item.record.id), no_trunc) for item in containers]
        text = _lines(rows) if shape is options.Format.JSON else _table(rows)
        print(_redrawn(text) if live else text, end="", flush=True)
        if no_stream:
            return
        before, window = now, _WINDOW


def _sample(containers: list[inventory.Container]) -> Samples:
    found = {}
    for item in containers:
        if item.pid is not None and item.state in {"running", "paused"}:
            # With another's network, its traffic is that one's.
            seen = usage.read(item.pid, item.record.id, network=not item.record.network_mode)
            if seen is not None:
                found[item.record.id] = seen
    return found


def _fields(
    item: inventory.Container, before: usage.Usage | None, now: usage.Usage | None, no_trunc: bool
) -> dict[str, str]:
    """Docker's fields, and three of our own for pressure."""
    container_id = item.record.id if no_trunc else item.record.id[:12]
    row = {"Container": container_id, "ID": container_id, "Name": item.record.name}
    if now is None:
        lacking = dict.fromkeys(("BlockIO", "CPUPerc", "MemPerc", "NetIO", "PIDs", *_PRESSURES), "--")
        return dict(sorted((row | lacking | {"MemUsage": "-- / --"}).items()))
    spent = now.cpu - before.cpu if before else 0.0
    elapsed = now.taken - before.taken if before else 0.0
    row |= {
        "CPUPerc": f"{max(spent, 0.0) / elapsed * 100 if elapsed > 0 else 0.0:.2f}%",
        "MemUsage": f"{formats.binary_size(now.memory)} / {formats.binary_size(now.memory_limit)}",
        "MemPerc": f"{now.memory / now.memory_limit * 100:.2f}%",
        "NetIO": f"{formats.size(now.received)} / {formats.size(now.sent)}",
        "BlockIO": f"{formats.size(now.read)} / {formats.size(now.written)}",
        "PIDs": str(now.pids),
    }
    for field, resource in _PRESSURES.items():
        row[field] = f"{now.pressure[resource]:.2f}%" if resource in now.pressure else "--"
    return dict(sorted(row.items()))


def _lines(rows: list[dict[str, str]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _table(rows: list[dict[str, str]]) -> str:
    """Without columns of pressure where the kernel tells of none."""
    told = {field for field in _PRESSURES if any(row[field] != "--" for row in rows)}
    shown = {field: title for field, title in _HEADINGS.items() if field not in _PRESSURES or field in told}
    return table.render(tuple(shown.values()), [[row[field] for field in shown] for row in rows])


def _redrawn(text: str) -> str:
    """Over what stood there before, without the flicker of an empty screen."""
    width, height = terminal.size(sys.stdout)
    lines = [table.cut(line, width) for line in text.splitlines()[: max(height - 1, 1)]]
    return _HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW
