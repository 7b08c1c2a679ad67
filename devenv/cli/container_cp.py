"""``devenv container cp``: files between one container and this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv.cli import containing, copying, cp, inventory, operate
from devenv.runtime import view
from devenv.supervisor import engine
from devenv.util import paths


def command(
    ctx: typer.Context,
    *,
    source: Annotated[str, typer.Argument(metavar="CONTAINER:PATH|PATH|-", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="CONTAINER:PATH|PATH|-", show_default=False)],
    archive: cp.Archive = False,
    follow_link: cp.Follow = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", hidden=True)] = False,
) -> None:
    """Copy files between a container and this machine, whether it runs or not."""
    del quiet
    operate.refuse_dry_run(ctx.obj, "container cp")
    (from_name, from_path), (to_name, to_path) = cp.split(source), cp.split(target)
    name = cp.one_side(from_name, to_name)
    where = paths.locate()
    item = containing.find(inventory.load(where), name)
    engine.share_user_namespace(where)
    wishes = copying.Wishes(archive=archive, follow=follow_link)
    with view.opened(item.folder, name=item.record.name) as opened:
        if from_name:
            copying.out_of(opened, from_path, to_path, wishes, name=name)
        else:
            copying.into(opened, from_path, to_path, wishes, name=name)
