"""``devenv ui``: the project on one screen. What draws it is a library of its own, which only this command needs."""

from __future__ import annotations

import os
import sys

import typer

from devenv import errors
from devenv.cli import context, extras, options, terminal


def command(ctx: typer.Context) -> int:
    """Show services, logs and plans on one screen, with keys to act on them."""
    given: options.Globals = ctx.obj
    if not (terminal.is_terminal(sys.stdin) and terminal.is_terminal(sys.stdout)):
        raise errors.UsageError(
            "`devenv ui` needs a terminal", hint="`devenv ps`, `devenv stats` and `devenv logs -f` print"
        )
    if os.environ.get("TERM", "") in {"", "dumb", "unknown"}:
        raise errors.UsageError(
            f"the terminal `{os.environ.get('TERM', '')}` can't place text on its screen",
            hint="`devenv ps`, `devenv stats` and `devenv logs -f` print",
        )
    extras.need("ui", "textual", what="`devenv ui`")
    project = context.find(given)
    from devenv.cli.dashboard import app

    return app.run(given, project)
