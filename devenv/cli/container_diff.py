"""``devenv container diff``: which files a container has changed, added and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from devenv.cli import container_inspect, containing, image_diff, inventory, options
from devenv.image import difference, snapshot
from devenv.runtime import bundle
from devenv.supervisor import engine
from devenv.util import paths


def command(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", show_default=False)],
    format: options.TableFormat = "table",
) -> None:
    """Show which files a container has changed: A added, C changed, D deleted. What is in volumes does not count."""
    del ctx
    shape = options.table_format(format)
    where = paths.locate()
    item = containing.find(inventory.load(where), name)
    engine.share_user_namespace(where)
    image_diff.show(changes(item), shape)


def changes(item: inventory.Container) -> Iterator[difference.Change]:
    opaque = snapshot.opaque_attribute()
    config = bundle.load(item.folder, name=item.record.name)
    for overlay in container_inspect.overlays(config):
        prefix = overlay["target"].rstrip("/")
        for each in difference.of_top(overlay["upper"], overlay["lower"], opaque=opaque):
            yield each._replace(path=f"{prefix}{each.path}")
