"""``devenv network rm`` and ``prune``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import formats, inventory, listing, network_ls, networking, operate, options, rm
from devenv.network import store
from devenv.util import paths


def command(
    ctx: typer.Context,
    *,
    names: Annotated[list[str], typer.Argument(metavar="NETWORK...", show_default=False)],
    force: Annotated[bool, typer.Option("--force", "-f", help="One that isn't there is removed already")] = False,
) -> None:
    """Remove networks."""
    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "network rm")
    where = paths.locate()
    problems: list[errors.DevenvError] = []
    for name in names:
        try:
            networks = store.load_all(where)
            if force and not any(name == item.name or store.id_of(item).startswith(name) for item in networks):
                continue
            networking.remove(given, where, networking.find(networks, name))
            print(name)
        except errors.DevenvError as exc:
            problems.append(exc)
    listing.report(problems)


def prune(
    ctx: typer.Context,
    *,
    filters: listing.PruneFilters = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask")] = False,
) -> None:
    """Remove all networks that no container is in."""
    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "network prune")
    wanted = listing.filters(filters, ("until", "label", "project"))
    question = "This removes all networks that no container is in.\nAre you sure? [yN] "
    if not force and not rm.confirm(question):
        return
    where, now = paths.locate(), time.time()
    moments = [formats.moment(value, now=now, option="--filter until") for value in wanted.pop("until", [])]
    containers = inventory.load(where)
    removed: list[str] = []
    for network in store.load_all(where):
        late = any(network.created >= moment for moment in moments)
        if late or networking.guests(network, containers) or not network_ls.matches(network, wanted, containers):
            continue
        networking.remove(given, where, network)
        removed.append(network.name)
    if removed:
        print("Deleted Networks:\n" + "".join(f"{name}\n" for name in removed))
