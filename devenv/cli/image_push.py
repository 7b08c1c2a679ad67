"""``devenv image push``: one image, or all tags of a repository; as ``docker push``."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import operate, options


def command(
    ctx: typer.Context,
    *,
    image: Annotated[str, typer.Argument(metavar="NAME[:TAG]", show_default=False)],
    all_tags: Annotated[
        bool, typer.Option("--all-tags", "-a", help="All tags of the repository that are here")
    ] = False,
    platform: options.Platform = "",
    quiet: options.QuietTransfer = False,
) -> None:
    """Push an image to its registry."""
    from devenv.cli import transfers
    from devenv.image import reference

    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "image push")
    wanted = reference.parse(image)
    with transfers.Transfers(given, title="push", quiet=quiet) as running:
        names = [image]
        if all_tags:
            prefix = f"{wanted.registry}/{wanted.repository}:"
            tags = {tag for stored in running.store.index.images() for tag in stored.tags}
            names = sorted(tag for tag in tags if tag.startswith(prefix))
            if not names:
                raise errors.ImageError(f"no tag of `{image}` is here")
        pushed = running.all(functools.partial(running.pusher.push, name, wanted_platform=platform) for name in names)
    transfers.raise_first(pushed)
    for name, target in zip(names, pushed, strict=True):
        if not isinstance(target, errors.DevenvError):
            print(f"{reference.parse(name)}@{target.digest}")
