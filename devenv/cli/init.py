"""``devenv init [TEMPLATE] [DIR]``: begin a project from a template, or with a spec for the folder one is in.

Never overwrites a file.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import report, table
from devenv.util import templates

_DEFAULT = "guestbook"

Template = Annotated[str, typer.Argument(metavar="[TEMPLATE]", help="Its name; see --list", show_default=False)]
Directory = Annotated[
    str, typer.Argument(metavar="[DIR]", help="The project's folder, made if need be", show_default=False)
]
List = Annotated[bool, typer.Option("--list", help="List the templates")]


def command(
    template: Template = "",
    directory: Directory = "",
    show: List = False,
    dry: Annotated[bool, typer.Option("--print", help="Print the spec for this folder, and write nothing")] = False,
) -> None:
    """Write a spec for what is in this folder; or begin a project from a template, in a folder named after it."""
    known = {item.name: item for item in _available()}
    if show:
        print(table.render(("NAME", "WHAT IT IS"), [(item.name, item.summary) for item in known.values()]), end="")
        return
    if dry or not template:
        from devenv.cli import proposing

        if proposing.here(write=not dry):
            return
        if dry:
            raise errors.UsageError("nothing in this folder is recognised", hint="devenv init --list")
        print(f"nothing in this folder is recognised, so here is a sample: `{_DEFAULT}`", file=sys.stderr)
    name = template or _DEFAULT
    if name not in known:
        raise errors.UsageError(
            f"there is no template `{name}`",
            hint=report.did_you_mean(name, known) or f"there are: {', '.join(known) or 'none'}",
        )
    target = directory or name
    try:
        paths = templates.copy(known[name], target)
    except templates.Conflict as exc:
        raise errors.UsageError(
            f"`{target}` has {_some(exc.paths)} already, and nothing is overwritten",
            hint=f"name another folder: `devenv init {name} DIR`",
        ) from exc
    except OSError as exc:
        path = exc.filename or target
        raise errors.UsageError(f"can't write `{path}`: {exc.strerror}") from exc
    for path in paths:
        print(os.path.join(target, path))
    report_next(target)


def report_next(target: str) -> None:
    step = "devenv up" if os.path.realpath(target) == os.path.realpath(".") else f"cd {target} && devenv up"
    print(f"next: {step}", file=sys.stderr)


def _available() -> list[templates.Template]:
    try:
        return templates.available()
    except OSError as exc:
        raise errors.HostError(
            f"can't read the templates: {exc.strerror}: `{exc.filename}`", hint="install devenv again"
        ) from exc


def _some(paths: list[str]) -> str:
    shown = ", ".join(f"`{path}`" for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
