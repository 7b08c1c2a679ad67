"""``devenv image pull``: one image, or all tags of a repository; as ``docker pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv.cli import options, transfers


def command(
    ctx: typer.Context,
    *,
    image: Annotated[str, typer.Argument(metavar="NAME[:TAG|@DIGEST]", show_default=False)],
    all_tags: Annotated[bool, typer.Option("--all-tags", "-a", help="All tags of the repository")] = False,
    platform: options.Platform = "",
    quiet: options.QuietTransfer = False,
) -> None:
    """Pull an image from its registry."""
    transfers.pull_image(ctx.obj, image, all_tags=all_tags, platform=platform, quiet=quiet)
