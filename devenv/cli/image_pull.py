"""``devenv image pull``: one image, or all tags of a repository; as ``docker pull``."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import operate, options, terminal


def command(
    ctx: typer.Context,
    *,
    image: Annotated[str, typer.Argument(metavar="NAME[:TAG|@DIGEST]", show_default=False)],
    all_tags: Annotated[bool, typer.Option("--all-tags", "-a", help="All tags of the repository")] = False,
    platform: options.Platform = "",
    quiet: options.QuietTransfer = False,
) -> None:
    """Pull an image from its registry."""
    from devenv.cli import transfers
    from devenv.image import reference

    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "image pull")
    wanted = reference.parse(image)
    if wanted.transport is not reference.Transport.REGISTRY:
        raise errors.UsageError(f"image `{image}` is on this machine: there is nothing to pull")
    if all_tags and (wanted.digest or not str(wanted).endswith(":latest") or image.endswith(":latest")):
        raise errors.UsageError("`--all-tags` takes a repository, without a tag or digest")
    with transfers.Transfers(given, title="pull", quiet=quiet) as running:
        names = [wanted.familiar]
        if all_tags:
            names = [wanted._replace(tag=tag).familiar for tag in running.puller.tags(wanted)]
        pulled = running.all(functools.partial(running.puller.pull, name, wanted_platform=platform) for name in names)
    transfers.raise_first(pulled)
    for name in names:
        print(terminal.visible(str(reference.parse(name))))
