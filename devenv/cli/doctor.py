"""``devenv doctor``: what this machine gives and lacks. Exit code 1 when something must be mended."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import report, table, terminal

Format = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table or json")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only what is missing")]

_COLOURS = {"ok": "32", "warn": "33", "fail": "1;31"}


def command(output: Format = "table", quiet: Quiet = False) -> int:
    """Show what this machine gives and lacks, with the line that mends each lack."""
    from devenv.reconcile import doctor, facts

    if output not in {"table", "json"}:
        raise errors.UsageError(f"`{output}` is no format of `devenv doctor`", hint="it is table or json")
    checks = [item for item in doctor.run(facts.Machine()) if not quiet or item.status is not facts.Status.OK]
    failed = [item for item in checks if item.status is facts.Status.FAIL]
    if output == "json":
        print(json.dumps([item.to_json() for item in checks], ensure_ascii=False, indent=2))
        return 1 if failed else 0
    ansi = report.settings.ansi if report.settings is not None else "auto"
    colour = terminal.wants_colour(sys.stdout, ansi)
    cells = max((table.width(item.name) for item in checks), default=0)
    for item in checks:
        status = terminal.paint(f"{item.status:<4}", _COLOURS[item.status], colour=colour)
        print(f"{status}  {table.pad(item.name, cells)}  {terminal.visible(item.found)}")
        if item.fix:
            print(f"{'':{cells + 6}}  {terminal.paint('fix:', '1;36', colour=colour)} {terminal.visible(item.fix)}")
    if failed:
        print(f"{len(failed)} of {len(checks)} must be mended before an environment can run", file=sys.stderr)
    return 1 if failed else 0
