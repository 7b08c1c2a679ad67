"""``devenv version``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

import devenv
from devenv import errors

Short = Annotated[bool, typer.Option("--short", help="Only the number")]
Format = Annotated[str, typer.Option("--format", "-f", metavar="FORMAT", help="pretty or json")]


def command(short: Short = False, output: Format = "pretty") -> None:
    """Print the version."""
    if output not in {"pretty", "json"}:
        raise errors.UsageError(f"`{output}` is no format of `devenv version`", hint="it is pretty or json")
    if output == "json":
        print(json.dumps({"version": devenv.__version__}))
    elif short:
        print(devenv.__version__)
    else:
        print(f"devenv version {devenv.__version__}")
