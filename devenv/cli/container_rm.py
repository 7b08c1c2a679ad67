"""``devenv container rm`` and ``prune``: containers of whatever project, by their names."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import container_ls, containing, formats, inventory, listing, operate, options, rm
from devenv.cli.display import sink
from devenv.util import paths


def command(
    ctx: typer.Context,
    *,
    names: Annotated[list[str], typer.Argument(metavar="CONTAINER...", show_default=False)],
    force: Annotated[bool, typer.Option("--force", "-f", help="Stop those that run, too")] = False,
    volumes: Annotated[bool, typer.Option("--volumes", "-v", help="Also remove anonymous volumes")] = False,
) -> None:
    """Remove containers."""
    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "container rm")
    where = paths.locate()
    containers = inventory.load(where)
    chosen, problems = [], []
    for name in names:
        try:
            item = containing.find(containers, name)
            if item.state in inventory.ACTIVE and not force:
                raise errors.ContainerError(
                    f"container `{item.record.name}` is {item.state}", hint="`--force` stops it first"
                )
            chosen.append(item)
        except errors.DevenvError as exc:
            problems.append(exc)
    _remove(given, where, chosen, volumes=volumes)
    for item in chosen:
        print(item.record.name)
    listing.report(problems)


def prune(
    ctx: typer.Context,
    *,
    filters: listing.PruneFilters = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask")] = False,
) -> None:
    """Remove all containers that don't run."""
    given: options.Globals = ctx.obj
    operate.refuse_dry_run(given, "container prune")
    wanted = listing.filters(filters, ("until", "label", "project"))
    if not force and not rm.confirm("This removes all stopped containers.\nAre you sure? [yN] "):
        return
    size = sweep(given, paths.locate(), wanted)
    print(f"Total reclaimed space: {formats.size(size)}")


def sweep(given: options.Globals, where: paths.Paths, wanted: Mapping[str, Sequence[str]]) -> int:
    """Remove the stopped ones that match. Returns how much they had written."""
    now = time.time()
    moments = [formats.moment(value, now=now, option="--filter until") for value in wanted.get("until", ())]
    others = {key: values for key, values in wanted.items() if key != "until"}
    chosen = [
        item
        for item in inventory.load(where)
        if item.state not in inventory.ACTIVE
        and all(item.record.created < moment for moment in moments)
        and container_ls.matches(item, others)
    ]
    size = sum(container_ls.written(item.folder) for item in chosen)
    _remove(given, where, chosen, volumes=False)
    if chosen:
        print("Deleted Containers:\n" + "".join(f"{item.record.id}\n" for item in chosen))
    return size


def _remove(
    given: options.Globals, where: paths.Paths, chosen: Iterable[inventory.Container], *, volumes: bool
) -> None:
    """Each by its own project's supervisor."""
    projects: dict[str, list[inventory.Container]] = defaultdict(list)
    for item in chosen:
        projects[item.record.project_id].append(item)
    for items in projects.values():
        supervisor = operate.ensure(containing.Home(where, items[0]))
        params = {"containers": [item.record.id for item in items], "stop": True, "volumes": volumes}
        operate.request(supervisor, "rm", params, show=sink.choose(given))
