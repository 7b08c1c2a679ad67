"""``--format`` of commands that list or inspect: a table, JSON lines, or a template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import gotemplate, table, terminal

Format = Annotated[str, typer.Option("--format", metavar="FORMAT", help="table, json or a Go template")]
InspectFormat = Annotated[str, typer.Option("--format", "-f", metavar="FORMAT", help="json or a Go template")]
NoTrunc = Annotated[bool, typer.Option("--no-trunc", help="Do not cut columns")]
Filters = Annotated[
    list[str] | None, typer.Option("--filter", "-f", metavar="KEY=VALUE", help="Only what matches; may be repeated")
]
# Of commands that remove all containers, or networks, that nobody uses.
PruneFilters = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="KEY=VALUE", help="until=TIME, label=KEY[=VALUE], project=NAME"),
]


def show(rows: Sequence[Mapping[str, Any]], shape: str, columns: Mapping[str, str]) -> None:
    """``columns``: heading -> field."""
    if gotemplate.is_template(shape):
        print(gotemplate.render_rows(shape, rows), end="")
    elif shape == "json":
        print("".join(f"{json.dumps(row)}\n" for row in rows), end="")
    elif shape == "table":
        lines = [[str(row[field]) for field in columns.values()] for row in rows]
        print(table.render(list(columns), lines), end="")
    else:
        raise errors.UsageError(f"`--format {shape}` is not understood; it is table, json or a Go template")


def show_inspected(values: Sequence[Mapping[str, Any]], shape: str) -> None:
    if gotemplate.is_template(shape):
        compiled = gotemplate.compile_template(shape)
        print("".join(f"{compiled(value)}\n" for value in values), end="")
    elif shape in {"", "json"}:
        print(json.dumps(list(values), indent=4 if not shape else None))
    else:
        raise errors.UsageError(f"`--format {shape}` is not understood; it is json or a Go template")


def filters(given: list[str] | None, known: Sequence[str]) -> dict[str, list[str]]:
    """Values by key. Of one key any may match, of different keys all must."""
    found: dict[str, list[str]] = {}
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or key not in known:
            raise errors.UsageError(
                f"`--filter {text}` is not understood", hint=f"write {', '.join(f'{each}=VALUE' for each in known)}"
            )
        found.setdefault(key, []).append(value)
    return found


def truth(value: str, *, option: str) -> bool:
    if value.lower() not in {"true", "1", "t", "false", "0", "f"}:
        raise errors.UsageError(f"`{option}={value}` is neither true nor false")
    return value.lower() in {"true", "1", "t"}


def report(problems: Sequence[errors.DevenvError]) -> None:
    """Of several arguments all are tried; what failed is told together."""
    if problems:
        first, *others = problems
        lines = [first.note] if first.note else []
        first.note = "\n".join([*lines, *(f"also: {terminal.visible(each.message)}" for each in others)]) or None
        raise first
