"""`list` and `ps`."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from devenv import errors
from devenv.runtime import cgroup

if TYPE_CHECKING:
    from devenv.oci.main import Context


def containers(context: Context) -> int:
    try:
        found = list(context.store.all())
    except FileNotFoundError:
        from devenv.oci import main

        if context.store.root != main.default_root():
            raise
        found = []
    if context.given.quiet:
        for each in found:
            print(each.id)
    elif context.given.format == "json":
        print(json.dumps([each.described() for each in found], separators=(",", ":")))
    else:
        rows = [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
        for each in found:
            state = each.described()
            rows.append([str(state[name]) for name in ("id", "pid", "status", "bundle", "created", "owner")])
        _table(rows)
    return 0


def _table(rows: list[list[str]]) -> None:
    widths = [max(12, *(len(row[column]) for row in rows)) for column in range(len(rows[0]))]
    for row in rows:
        print("".join(text.ljust(width + 1) for text, width in zip(row, widths, strict=True)).rstrip())


def processes(context: Context) -> int:
    found = context.store.get(context.given.id)
    record = found.record
    pids = cgroup.pids(record.cgroup) if record.cgroup else [record.pid] if found.alive() else []
    if context.given.format == "json":
        print(json.dumps(sorted(pids)))
        return 0
    tool = shutil.which("ps")
    if tool is None:
        raise errors.HostError("there is no ps on this machine", hint="use `--format json`")
    answer = subprocess.run([tool, *(context.given.args or ["-ef"])], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise errors.ContainerError(f"ps: {answer.stderr.strip()}")
    for line in _of(pids, answer.stdout.splitlines()):
        print(line)
    return 0


def _of(pids: list[int], lines: list[str]) -> list[str]:
    heading = lines[0].split()
    if "PID" not in heading:
        raise errors.UsageError("these options of ps leave the PID out")
    column = heading.index("PID")
    wanted = {str(pid) for pid in pids}
    return [
        lines[0],
        *(line for line in lines[1:] if line.split()[column : column + 1] and line.split()[column] in wanted),
    ]
