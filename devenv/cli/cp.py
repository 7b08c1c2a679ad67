"""``devenv cp``: files between the containers of a service and this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv import errors
from devenv.cli import context, copying, inventory, operate, options
from devenv.runtime import view
from devenv.supervisor import engine

Archive = Annotated[bool, typer.Option("--archive", "-a", help="Keep owners")]
Follow = Annotated[bool, typer.Option("--follow-link", "-L", help="Follow a symbolic link at SOURCE")]


def command(
    ctx: typer.Context,
    *,
    source: Annotated[str, typer.Argument(metavar="SERVICE:PATH|PATH|-", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="SERVICE:PATH|PATH|-", show_default=False)],
    every: Annotated[bool, typer.Option("--all", help="Also containers that `run` made")] = False,
    archive: Archive = False,
    follow_link: Follow = False,
    index: options.Index = 0,
) -> None:
    """Copy files between a service and this machine, in whatever state its containers are."""
    operate.refuse_dry_run(ctx.obj, "cp")
    (from_service, from_path), (to_service, to_path) = split(source), split(target)
    name = one_side(from_service, to_service)
    project = context.find(ctx.obj)
    project.check_services([name])
    containers = [
        item
        for item in inventory.load(project.where, project.identity.id)
        if item.record.service == name and (every or not item.record.oneoff) and index in {0, item.record.number}
    ]
    if not containers:
        what = f"service `{name}`" + (f" number {index}" if index else "")
        raise errors.ContainerError(f"{what} has no container", hint=f"`devenv create {name}` makes one")
    engine.share_user_namespace(project.where)
    wishes = copying.Wishes(archive=archive, follow=follow_link)
    if from_service:
        with view.opened(containers[0].folder, name=containers[0].record.name) as opened:
            copying.out_of(opened, from_path, to_path, wishes, name=name)
        return
    if from_path == "-":
        # A stream comes once.
        containers = containers[:1]
    for item in containers:
        with view.opened(item.folder, name=item.record.name) as opened:
            copying.into(opened, from_path, to_path, wishes, name=item.record.name if len(containers) > 1 else name)


def split(text: str) -> tuple[str, str]:
    """`SERVICE:PATH`; no service for a path of this machine, which may have a colon behind a slash or a dot."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")) or "/" in name:
        return "", text
    return name, path


def one_side(source: str, target: str) -> str:
    if source and target:
        raise errors.UsageError("copying between two containers is not supported", hint="copy out, then in")
    if not source and not target:
        raise errors.UsageError("one of the two has to be of the form NAME:PATH")
    return source or target
