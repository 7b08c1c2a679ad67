"""``devenv timings``: what the last start took, from the project's journal. The chain that decided it is marked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from devenv import errors
from devenv.cli import context, options, table
from devenv.reconcile import journal


def command(ctx: typer.Context, *, format: options.TableFormat = "table") -> None:
    """Show what the last start of the project took, and its critical path."""
    shape = options.table_format(format)
    project = context.find(ctx.obj)
    steps = last_run(list(journal.read(project.where, project.identity)))
    if not steps:
        raise errors.UsageError("nothing of this project was started yet", hint="devenv up -d")
    critical = critical_path(steps)
    begin = min(step["began"] for step in steps.values())
    ordered = sorted(steps.values(), key=lambda step: (step["began"], step["id"]))
    if shape is options.Format.JSON:
        print(json.dumps([_row(step, begin, critical) for step in ordered]))
        return
    rows = [
        (
            "*" if step["id"] in critical else "",
            f"{step['began'] - begin:.3f}",
            f"{step['time'] - step['began']:.3f}",
            f"{step['type']} {step['resource']}",
            step.get("error") or step.get("cause") or "",
        )
        for step in ordered
    ]
    print(table.render(("", "BEGAN", "TOOK", "WHAT", "WHY"), rows), end="")
    total = max(step["time"] for step in ordered) - begin
    print(f"{total:.3f} s in all; * is what they were")


def _row(step: Mapping[str, Any], begin: float, critical: set[str]) -> dict[str, Any]:
    return {
        "Operation": step["type"],
        "Resource": step["resource"],
        "Service": step.get("service", ""),
        "Began": round(step["began"] - begin, 6),
        "Took": round(step["time"] - step["began"], 6),
        "Critical": step["id"] in critical,
        "Cause": step.get("cause", ""),
        "Error": step.get("error", ""),
    }


def last_run(entries: list[journal.Entry]) -> dict[str, journal.Entry]:
    """The operations, by id, of the newest plan that started a container."""
    runs = [each["run"] for each in entries if each.get("type") == "container.start" and "run" in each]
    if not runs:
        return {}
    return {each["id"]: each for each in entries if each.get("run") == runs[-1]}


def critical_path(steps: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """From what ended last back to what began first, each time by what ended last of what it came after."""
    found: set[str] = set()
    step = max(steps.values(), key=lambda each: each["time"])
    while step["id"] not in found:
        found.add(step["id"])
        before = [steps[name] for name in step.get("after") or () if name in steps]
        if not before:
            break
        step = max(before, key=lambda each: each["time"])
    return found
