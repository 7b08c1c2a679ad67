"""``devenv ls``: the projects that have containers, wherever their folders are."""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import inventory, options, table
from devenv.util import paths


def command(
    ctx: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also projects with nothing running")] = False,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="name=NAME", help="Only projects of this name")
    ] = None,
    format: options.TableFormat = "table",
    quiet: options.Quiet = False,
) -> None:
    """List projects."""
    shape = options.table_format(format)
    patterns = [_filter(text) for text in filters or ()]
    projects: dict[str, list[inventory.Container]] = {}
    for item in inventory.load(paths.locate()):
        if not item.record.oneoff:
            projects.setdefault(item.record.project_id, []).append(item)
    rows = []
    for containers in projects.values():
        first = containers[0].record
        states = Counter(item.state for item in containers)
        if not every and not inventory.ACTIVE & set(states):
            continue
        if patterns and not any(fnmatch.fnmatchcase(first.project, pattern) for pattern in patterns):
            continue
        status = ", ".join(f"{state}({count})" for state, count in sorted(states.items()))
        rows.append((first.project, status, ",".join(first.config_files)))
    rows.sort()
    if quiet:
        print("".join(f"{name}\n" for name, _, _ in rows), end="")
    elif shape is options.Format.JSON:
        print(json.dumps([dict(zip(("Name", "Status", "ConfigFiles"), row, strict=True)) for row in rows]))
    else:
        print(table.render(("NAME", "STATUS", "CONFIG FILES"), rows), end="")


def _filter(text: str) -> str:
    key, _, value = text.partition("=")
    if key != "name" or not value:
        raise errors.UsageError(f"`--filter {text}` is not understood", hint="write name=NAME")
    return value
