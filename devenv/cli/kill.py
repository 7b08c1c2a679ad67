"""``devenv kill``."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv import errors
from devenv.cli import inventory, lifecycle, options


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    signal: Annotated[
        str, typer.Option("--signal", "-s", metavar="SIGNAL", help="Name or number of the signal")
    ] = "SIGKILL",
    remove_orphans: options.RemoveOrphans = False,
) -> None:
    """Send a signal to services, SIGKILL unless told otherwise."""
    check_signal(signal)
    params = {"signal": signal, "remove_orphans": remove_orphans}
    lifecycle.change(ctx.obj, "kill", services, params, states=inventory.ACTIVE)


def check_signal(text: str) -> None:
    from devenv.runtime import signals

    try:
        signals.parse(text)
    except (ValueError, errors.DevenvError):
        raise errors.UsageError(f"`{text}` is not a signal", hint="write for instance SIGHUP, HUP or 1") from None
