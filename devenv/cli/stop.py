"""``devenv stop``."""

from __future__ import annotations

import typer

from devenv.cli import formats, inventory, lifecycle, options


def command(ctx: typer.Context, services: options.Services = None, timeout: options.Timeout = None) -> None:
    """Stop running services without removing them."""
    seconds = formats.seconds_or_duration(timeout, option="--timeout")
    lifecycle.change(ctx.obj, "stop", services, {"timeout": seconds}, states=inventory.ACTIVE)
