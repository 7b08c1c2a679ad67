"""``devenv snapshot export`` and ``import``: a snapshot as a file, for another machine, or for `seed:` in a spec."""

from __future__ import annotations

import contextlib
import gzip
import time
from collections.abc import Iterator
from typing import Annotated, BinaryIO, cast

import typer

from devenv import errors
from devenv.cli import context, image_archive, operate, options, voluming
from devenv.runtime import packing
from devenv.volume import snapshot

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


def export(ctx: typer.Context, *, name: Name, output: image_archive.Output = "") -> None:
    """Write a snapshot of volumes to a tar archive, compressed where FILE ends in .gz; `seed:` takes it."""
    operate.refuse_dry_run(ctx.obj, "snapshot export")
    project = context.find(ctx.obj)
    where = voluming.change()
    store = snapshot.SnapshotStore(where, project.identity.id)
    found = store.find(name)
    keys = _keys(ctx.obj, project)
    with image_archive.written(output, what="a tar archive") as out, _compressed(out, output) as stream:
        packer = packing.Packer(stream)
        for volume, kept in sorted(found.volumes.items()):
            with store.shown(kept.layers) as path:
                packer.folder(path, keys.get(volume) or _bare(volume, project))
        packer.close()


def load(
    ctx: typer.Context,
    *,
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False)],
) -> None:
    """Make a snapshot of what an archive has, which `snapshot restore` brings into the volumes."""
    operate.refuse_dry_run(ctx.obj, "snapshot import")
    from devenv.reconcile import seeding

    project = context.find(ctx.obj)
    where = voluming.change()
    store = snapshot.SnapshotStore(where, project.identity.id)
    store.check_new(name)
    names = {key: volume for volume, key in _keys(ctx.obj, project).items()}

    def fill(key: str, folder: str) -> None:
        seeding.unpack(file, key, folder)

    found = {names.get(key) or f"{project.identity.name}_{key}": key for key in seeding.keys(file)}
    if not found:
        raise errors.VolumeError(f"`{file}` has no folder for any volume")
    store.adopt(snapshot.Snapshot(name, time.time()), found, fill)
    print("".join(f"{volume}\n" for volume in sorted(found)), end="")


def _keys(given: options.Globals, project: context.Found) -> dict[str, str]:
    """The spec's keys of volumes by their full names, as far as a spec can be read."""
    with contextlib.suppress(errors.DevenvError):
        volumes = context.load(given, warn=False).canonical.get("volumes") or {}
        return {each["name"]: key for key, each in volumes.items()}
    return {}


def _bare(volume: str, project: context.Found) -> str:
    return volume.removeprefix(f"{project.identity.name}_")


@contextlib.contextmanager
def _compressed(out: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """The same data gives the same bytes: gzip has no name and no time in it."""
    if not name.endswith((".gz", ".tgz")):
        yield out
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as stream:
        yield cast(BinaryIO, stream)
