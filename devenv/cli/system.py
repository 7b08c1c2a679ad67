"""``devenv system df`` and ``prune``: what devenv takes on the disk, and getting it back.

RECLAIMABLE is what `devenv system prune --all --volumes` would free, by the rules that the pruning itself goes by.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import typer

from devenv.cli import container_ls, container_rm, formats, image_rm, imaging, inventory, listing, operate, rm, voluming
from devenv.image import gc, usage
from devenv.util import paths


class Row(NamedTuple):
    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


def df(
    ctx: typer.Context,
    *,
    format: listing.Format = "table",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Each image, container and volume")] = False,
) -> None:
    """Show what images, containers and volumes take on the disk."""
    del ctx
    opened = imaging.Images.change()
    if verbose:
        _verbose(opened, format)
        return
    rows = [_fields(row) for row in measure(opened.where)]
    columns = {"TYPE": "Type", "TOTAL": "TotalCount", "ACTIVE": "Active", "SIZE": "Size", "RECLAIMABLE": "Reclaimable"}
    listing.show(rows, format, columns)


def measure(where: paths.Paths) -> list[Row]:
    from devenv.build import upkeep

    containers = inventory.load(where)
    found = usage.take(where)
    built = upkeep.measure(where)
    used = {image_id for item in containers for image_id in item.record.image_ids}
    catalog = imaging.Images.open().catalog
    active = [stored for stored in found.images if (entry := catalog.entry(stored)) and entry.id in used]
    running = [item for item in containers if item.state in inventory.ACTIVE]
    sizes = {item.record.id: container_ls.written(item.folder) for item in containers}
    volumes = {each.key: voluming.size(where, each) for each in voluming.every(where)}
    needed = voluming.users(where, containers)
    free = [each for each in volumes if each not in needed]
    return [
        Row(
            "Images",
            len(found.images),
            len(active),
            found.total - found.cache,
            found.freed([stored.target.digest for stored in active]),
        ),
        Row(
            "Containers",
            len(containers),
            len(running),
            sum(sizes.values()),
            sum(size for name, size in sizes.items() if name not in {item.record.id for item in running}),
        ),
        Row(
            "Local Volumes",
            len(volumes),
            len(volumes) - len(free),
            sum(volumes.values()),
            sum(volumes[each] for each in free),
        ),
        Row(
            "Build Cache",
            built.results + built.mounts,
            0,
            found.cache + built.mounts_size,
            found.cache + built.mounts_size,
        ),
        Row("Unfinished", 0, 0, usage.unfinished(where), 0),
    ]


def _fields(row: Row) -> dict[str, Any]:
    share = f" ({100 * row.reclaimable // row.size}%)" if row.size else ""
    return {
        "Type": row.kind,
        "TotalCount": str(row.total),
        "Active": str(row.active),
        "Size": formats.size(row.size),
        "Reclaimable": f"{formats.size(row.reclaimable)}{share}",
    }


def _verbose(opened: imaging.Images, format: str) -> None:
    """What it would take away if it alone went, which is not what it takes: much is shared."""
    found = usage.take(opened.where)
    every = {stored.target.digest for stored in found.images}
    base = found.freed(every)
    rows: list[dict[str, Any]] = []
    for entry in opened.catalog.entries():
        digest = entry.stored.target.digest
        whole = opened.catalog.size(entry)
        unique = found.freed(every - {digest}) - base
        rows.append(_line("image", ", ".join(entry.tags) or imaging.short(entry.id), whole, unique))
    for item in inventory.load(opened.where):
        size = container_ls.written(item.folder)
        rows.append(_line("container", item.record.name, size, size))
    for owned in voluming.every(opened.where):
        size = voluming.size(opened.where, owned)
        rows.append(_line("volume", "/".join(owned.key), size, size))
    listing.show(rows, format, {"TYPE": "Type", "NAME": "Name", "SIZE": "Size", "UNIQUE SIZE": "UniqueSize"})


def _line(kind: str, name: str, size: int, unique: int) -> dict[str, Any]:
    return {"Type": kind, "Name": name, "Size": formats.size(size), "UniqueSize": formats.size(unique)}


def prune(
    ctx: typer.Context,
    *,
    every: Annotated[
        bool,
        typer.Option("--all", "-a", help="Also images that have a name, and the build cache"),
    ] = False,
    volumes: Annotated[bool, typer.Option("--volumes", help="Also anonymous volumes that no container uses")] = False,
    keep: Annotated[
        str, typer.Option("--keep", metavar="SIZE", help="Only until images take no more, such as 20GB")
    ] = "",
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="until=TIME or label=KEY[=VALUE]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask")] = False,
) -> None:
    """Remove what is not used: stopped containers, images without a name, and leftovers."""
    from devenv.build import upkeep

    operate.refuse_dry_run(ctx.obj, "system prune")
    operate.exclusive(all=every, keep=bool(keep))
    budget = formats.parse_size(keep) if keep else None
    wanted = listing.filters(filters, ("until", "label"))
    if not force and not rm.confirm(_question(every=every, volumes=volumes, keep=keep)):
        return
    freed = 0
    if budget is None:
        freed = container_rm.sweep(ctx.obj, paths.locate(), wanted)
    opened = imaging.Images.change()
    if budget is None:
        image_rm.remove_unused(opened, wanted, every=every)
    else:
        image_rm.remove_over(opened, budget)
    upkeep.sweep(opened.where)
    if every:
        freed += upkeep.clear(opened.where)
    freed += gc.collect(opened.where).size
    if volumes:
        freed += _prune_volumes(opened.where)
    print(f"Total reclaimed space: {formats.size(freed)}")


def _question(*, every: bool, volumes: bool, keep: str) -> str:
    if keep:
        lines = [f"images that no container uses, those first that were used longest ago, until {keep} are left"]
    else:
        lines = ["all stopped containers"]
        lines.append(
            "all images that no container uses" if every else "all images without a name that no container uses"
        )
    if every:
        lines.append("all that builds keep: the build cache and cache mounts")
    if volumes:
        lines.append("all anonymous volumes that no container uses")
    return "This removes\n" + "".join(f"  - {line}\n" for line in lines) + "Are you sure? [yN] "


def _prune_volumes(where: paths.Paths) -> int:
    used = voluming.users(where, inventory.load(where))
    freed = 0
    for owned in voluming.every(where):
        size = voluming.size(where, owned)
        unused = owned.key not in used and owned.volume.anonymous
        if unused and voluming.store(where, owned.project).remove(owned.volume.name):
            freed += size
    return freed
