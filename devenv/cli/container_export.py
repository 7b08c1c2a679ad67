"""``devenv export`` and ``devenv container export``: a container's files, without its volumes, as a tar archive."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from devenv.cli import containing, context, image_archive, inventory, operate, options
from devenv.runtime import packing, view
from devenv.supervisor import engine
from devenv.util import paths

_ANY = frozenset({"running", "paused", "restarting", "created", "exited"})


def command(
    ctx: typer.Context, *, service: options.Service, index: options.Index = 0, output: image_archive.Output = ""
) -> None:
    """Write the files of a service's container to a tar archive."""
    operate.refuse_dry_run(ctx.obj, "export")
    project = context.find(ctx.obj)
    project.check_services([service])
    containers = inventory.load(project.where, project.identity.id)
    export(project.where, inventory.pick(containers, service, index, states=_ANY), output)


def by_name(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", show_default=False)],
    output: image_archive.Output = "",
) -> None:
    """Write a container's files to a tar archive. What is in volumes is not among them."""
    operate.refuse_dry_run(ctx.obj, "container export")
    where = paths.locate()
    export(where, containing.find(inventory.load(where), name), output)


def export(where: paths.Paths, item: inventory.Container, output: str) -> None:
    engine.share_user_namespace(where)
    with (
        view.opened(item.folder, name=item.record.name) as opened,
        image_archive.written(output, what="a tar archive") as out,
    ):
        out.flush()

        def pack(root: int) -> None:
            with open(os.dup(out.fileno()), "wb", buffering=1 << 16) as file:
                packer = packing.Packer(file, crossing=lambda path: f"/{path}" in opened.own)
                packer.tree(packing.find(root, "/", follow=False), "")
                packer.close()

        opened.work(pack).wait()
