"""``devenv restart``."""

from __future__ import annotations

import typer

from devenv.cli import formats, lifecycle, options


def command(
    ctx: typer.Context,
    *,
    services: options.Services = None,
    timeout: options.Timeout = None,
    no_deps: options.NoDeps = False,
) -> None:
    """Restart services, and those that depend on them with `restart: true`."""
    seconds = formats.seconds_or_duration(timeout, option="--timeout")
    lifecycle.change(ctx.obj, "restart", services, {"timeout": seconds, "no_deps": no_deps})
