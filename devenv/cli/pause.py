"""``devenv pause`` and ``devenv unpause``: the cgroup freezer."""

from __future__ import annotations

import typer

from devenv.cli import lifecycle, options


def command(ctx: typer.Context, services: options.Services = None) -> None:
    """Pause services: their processes stay, and stand still."""
    lifecycle.change(ctx.obj, "pause", services, {}, states=frozenset({"running"}))


def unpause(ctx: typer.Context, services: options.Services = None) -> None:
    """Resume paused services."""
    lifecycle.change(ctx.obj, "unpause", services, {}, states=frozenset({"paused"}))
