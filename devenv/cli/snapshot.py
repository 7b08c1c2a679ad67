"""``devenv snapshot …`` and ``devenv undo``: what a project's volumes have, kept and brought back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import context, formats, listing, operate, options, voluming
from devenv.util import paths
from devenv.volume import difference, snapshot

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


VolumesOnly = Annotated[bool, typer.Option("--volumes-only", help="Leave what containers have written of their own")]


def save(ctx: typer.Context, *, name: Name, volumes_only: VolumesOnly = False) -> None:
    """Keep what the project's volumes and containers have now."""
    operate.perform(ctx.obj, context.find(ctx.obj), "snapshot_save", {"name": name, "volumes_only": volumes_only})


def restore(ctx: typer.Context, *, name: Name, volumes_only: VolumesOnly = False) -> None:
    """Let volumes and containers have what a snapshot kept. What they have now is kept for `devenv undo`."""
    operate.perform(ctx.obj, context.find(ctx.obj), "snapshot_restore", {"name": name, "volumes_only": volumes_only})


def undo(ctx: typer.Context) -> None:
    """Bring back what the last `down -v`, `volume rm`, `snapshot restore` or `undo` took away."""
    operate.perform(ctx.obj, context.find(ctx.obj), "snapshot_restore", {})


def remove(
    ctx: typer.Context,
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", show_default=False)] = None,
    automatic: Annotated[bool, typer.Option("--automatic", help="All that were taken for `undo`")] = False,
) -> None:
    """Remove snapshots, and the data that nothing else has."""
    project = context.find(ctx.obj)
    wanted = list(names or ())
    store = snapshot.SnapshotStore(project.where, project.identity.id)
    for name in wanted:
        store.find(name)
    if automatic:
        wanted += [each.name for each in store.list() if each.automatic and each.name not in wanted]
    elif not wanted:
        raise errors.UsageError(
            "which snapshot?", hint="`devenv snapshot ls` lists them; --automatic means all for undo"
        )
    operate.perform(ctx.obj, project, "snapshot_remove", {"names": wanted})


def ls(ctx: typer.Context, *, format: listing.Format = "table", quiet: options.Quiet = False) -> None:
    """List the project's snapshots, the newest last."""
    project = context.find(ctx.obj)
    found = snapshot.SnapshotStore(project.where, project.identity.id).list()
    if quiet:
        print("".join(f"{each.name}\n" for each in found), end="")
        return
    columns = {
        "NAME": "Name",
        "CREATED": "CreatedSince",
        "VOLUMES": "Volumes",
        "CONTAINERS": "Containers",
        "TAKEN BEFORE": "Why",
    }
    listing.show([_fields(each) for each in found], format, columns)


def _fields(found: snapshot.Snapshot) -> dict[str, Any]:
    return {
        "Name": found.name,
        "CreatedSince": f"{formats.duration(time.time() - found.created)} ago",
        "CreatedAt": formats.timestamp(found.created),
        "Volumes": ", ".join(each[:12] if each in found.anonymous else each for each in found.volumes),
        "Containers": ", ".join(found.containers),
        "Why": found.why.strip("`"),
        "Automatic": str(found.automatic).lower(),
    }


def diff(
    ctx: typer.Context,
    *,
    name: Name,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="table or json")] = "table",
) -> None:
    """Show which files of volumes and containers differ from a snapshot's: A added since, C changed, D deleted."""
    if format not in {"table", "json"}:
        raise errors.UsageError(f"`--format {format}` is not understood; it is table or json")
    project = context.find(ctx.obj)
    where = voluming.change()
    store = snapshot.SnapshotStore(where, project.identity.id)
    found = store.find(name)
    rows = []
    for each, kept in found.volumes.items():
        if not os.path.isdir(store.folder(each)):
            rows.append({"Volume": each, "Kind": "D", "Path": ""})
            continue
        with store.shown(kept.layers) as before, voluming.opened(where, project.identity.id, each) as now:
            rows += [{"Volume": each, "Kind": kind, "Path": path} for kind, path in difference.of(before, now)]
    rows += _of_containers(where, project, store, found)
    if format == "json":
        print("".join(f"{json.dumps(row)}\n" for row in rows), end="")
        return
    named = ((row["Kind"], row.get("Volume") or f"{row['Container']}:", row["Path"]) for row in rows)
    print("".join(f"{kind} {name}/{path}\n" for kind, name, path in named), end="")


def _of_containers(
    where: paths.Paths, project: context.Found, store: snapshot.SnapshotStore, found: snapshot.Snapshot
) -> Iterator[dict[str, str]]:
    """Of those that are still there, by the same image."""
    from devenv.reconcile import record, snapshots

    for made in record.load_all(where, project.identity.id):
        key = f"{made.service}-{made.number}"
        box = found.containers.get(key)
        if made.oneoff or box is None or box.image != made.image_id:
            continue
        for layer, (target, upper) in zip(box.folders, snapshots.uppers(where, made), strict=True):
            for kind, path in difference.of_layers(f"{store.layers}/{layer}", upper):
                inner = f"{target.strip('/')}/{path}".lstrip("/")
                yield {"Container": key, "Kind": kind, "Path": inner}
