"""``devenv image tag``: another name for an image."""

from __future__ import annotations

from typing import Annotated

import typer

from devenv.cli import imaging, operate
from devenv.image import naming


def command(
    ctx: typer.Context,
    *,
    source: Annotated[str, typer.Argument(metavar="SOURCE_IMAGE[:TAG]", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TARGET_IMAGE[:TAG]", show_default=False)],
) -> None:
    """Give an image another name."""
    operate.refuse_dry_run(ctx.obj, "image tag")
    name = naming.target(target)
    images = imaging.Images.open()
    imaging.warn_moved(images.store.index.put(images.catalog.find(source).stored.target, tags=[str(name)]))
