"""``devenv container rename``: another name for a container, until it is made anew."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv.cli import containing, inventory, operate, options
from devenv.cli.display import sink
from devenv.util import paths


def command(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW_NAME", show_default=False)],
) -> None:
    """Rename a container. The others find it by the new name at once; its service's name stays."""
    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "container rename")
    where = paths.locate()
    item = containing.find(inventory.load(where), name.removeprefix("/"))
    supervisor = operate.ensure(containing.Home(where, item))
    params = {"container": item.record.id, "name": new.removeprefix("/")}
    operate.request(supervisor, "rename", params, show=sink.choose(given))
