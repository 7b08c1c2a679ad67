"""``devenv volume create``, ``rm`` and ``prune``. Data goes when somebody says so, and never that of a container."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import formats, inventory, listing, operate, rm, volume_ls, voluming
from devenv.volume import snapshot, volume

Force = Annotated[bool, typer.Option("--force", "-f", help="No error for a volume that is not there")]


def create(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="[VOLUME]", show_default=False)] = "",
    driver: Annotated[str, typer.Option("--driver", "-d", metavar="NAME", help="The volume's driver")] = "local",
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label; may be repeated")
    ] = None,
    opts: Annotated[
        list[str] | None, typer.Option("--opt", "-o", metavar="KEY=VALUE", help="An option of the driver")
    ] = None,
) -> None:
    """Create a volume of no project, for `external: true`. Prints its name."""
    operate.refuse_dry_run(ctx.obj, "volume create")
    store = voluming.store(voluming.change(), volume.SHARED)
    made = store.ensure(
        name or os.urandom(32).hex(), driver=driver, driver_opts=_pairs(opts), labels=_pairs(labels, bare=True)
    )
    print(made.name)


def _pairs(given: list[str] | None, *, bare: bool = False) -> dict[str, str]:
    found = {}
    for text in given or ():
        key, sign, value = text.partition("=")
        if not key or not (sign or bare):
            raise errors.UsageError(f"`{text}` is not of the form KEY=VALUE")
        found[key] = value
    return found


def remove(
    ctx: typer.Context,
    *,
    names: Annotated[list[str], typer.Argument(metavar="VOLUME...", show_default=False)],
    force: Force = False,
) -> None:
    """Remove volumes with their data, unless a container uses them."""
    operate.refuse_dry_run(ctx.obj, "volume rm")
    where = voluming.change()
    used = voluming.users(where, inventory.load(where))
    problems: list[errors.DevenvError] = []
    for name in names:
        try:
            owned = voluming.find(ctx, where, name)
        except errors.VolumeError as exc:
            if not force:
                problems.append(exc)
            continue
        try:
            if owned.key in used:
                ids = ", ".join(each[:12] for each in used[owned.key])
                raise errors.VolumeError(f"volume `{name}` is in use by {ids}", hint="`devenv container rm` first")
            now = time.time()
            before = snapshot.Snapshot(snapshot.automatic_name(now), now, "`volume rm`")
            snapshot.SnapshotStore(where, owned.project).keep_removed(owned.volume.name, before)
            print(name)
        except errors.VolumeError as exc:
            problems.append(exc)
    listing.report(problems)


def prune(
    ctx: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that have a name")] = False,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="label=KEY[=VALUE]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask")] = False,
) -> None:
    """Remove anonymous volumes that no container uses."""
    operate.refuse_dry_run(ctx.obj, "volume prune")
    wanted = listing.filters(filters, ("label",))
    kind = "volumes" if every else "anonymous volumes"
    if not force and not rm.confirm(f"This removes all {kind} that no container uses.\nAre you sure? [yN] "):
        return
    where = voluming.change()
    used = voluming.users(where, inventory.load(where))
    gone, freed = [], 0
    for owned in voluming.every(where):
        if owned.key in used or not (every or owned.volume.anonymous) or not volume_ls.matches(owned, wanted, used):
            continue
        size = voluming.size(where, owned)
        if voluming.store(where, owned.project).remove(owned.volume.name):
            gone.append(owned.volume.name)
            freed += size
    if gone:
        print("Deleted Volumes:\n" + "".join(f"{name}\n" for name in gone))
    print(f"Total reclaimed space: {formats.size(freed)}")
