"""``devenv system df`` and ``prune``: what devenv takes on the disk, and getting it back.

RECLAIMABLE is what `devenv system prune --all --volumes` would free, by the rules that the pruning itself goes by.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import typer

from devenv.cli import container_ls, container_rm, formats, image_rm, imaging, inventory, listing, operate, rm
from devenv.image import gc, usage
from devenv.util import paths
from devenv.volume import volume


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
    used = {item.record.image_id for item in containers}
    catalog = imaging.Images.open().catalog
    active = [stored for stored in found.images if (entry := catalog.entry(stored)) and entry.id in used]
    running = [item for item in containers if item.state in inventory.ACTIVE]
    sizes = {item.record.id: container_ls.written(item.folder) for item in containers}
    volumes = _volumes(where)
    needed = _used(where, containers)
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


def _volumes(where: paths.Paths) -> dict[tuple[str, str], int]:
    """By project and name. What a driver keeps elsewhere is not counted."""
    found: dict[tuple[str, str], int] = {}
    folder = f"{where.data}/volumes"
    for project in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        for each in volume.VolumeStore(where, project).list():
            found[project, each.name] = usage.tree_size(f"{folder}/{project}/{each.name}")
    return found


def _used(where: paths.Paths, containers: Iterable[inventory.Container]) -> set[tuple[str, str]]:
    """By project and name; a container may use another project's, and keeps its anonymous ones for the next."""
    folder = f"{where.data}/volumes/"
    found = set()
    for item in containers:
        names = (*item.record.volumes, *item.record.anonymous_volumes)
        found |= {(item.record.project_id, name) for name in names}
        for mount in item.record.mounts:
            source = str(mount.get("source") or "")
            if source.startswith(folder):
                project, _, rest = source.removeprefix(folder).partition("/")
                found.add((project, rest.partition("/")[0]))
    return found


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
    for (project, name), size in _volumes(opened.where).items():
        rows.append(_line("volume", f"{project}/{name}", size, size))
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
    used = _used(where, inventory.load(where))
    freed = 0
    for (project, name), size in _volumes(where).items():
        store = volume.VolumeStore(where, project)
        found = store.get(name)
        if (project, name) not in used and found is not None and found.anonymous and store.remove(name):
            freed += size
    return freed
