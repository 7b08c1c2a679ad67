"""``devenv image rm`` and ``prune``: names go first, an image with its last name, and then what nothing needs."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import formats, image_ls, imaging, inventory, listing, operate, rm, terminal
from devenv.image import catalog, gc, records, reference, usage
from devenv.util import fs, paths

Force = Annotated[bool, typer.Option("--force", "-f", help="Also what stopped containers use")]


def command(
    ctx: typer.Context,
    *,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", show_default=False)],
    force: Force = False,
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Leave layers and blobs where they are")] = False,
) -> None:
    """Remove images."""
    operate.refuse_dry_run(ctx.obj, "image rm")
    opened = imaging.Images.change()
    problems = []
    for text in images:
        try:
            remove(opened, text, force=force)
        except errors.DevenvError as exc:
            if force and isinstance(exc, errors.ImageError) and not opened.catalog.matching(text):
                terminal.warn(exc.message)
            else:
                problems.append(exc)
    if not no_prune:
        gc.collect(opened.where)
    listing.report(problems)


def prune(
    ctx: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="All that no container uses, named or not")] = False,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="until=TIME or label=KEY[=VALUE]")
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", metavar="SIZE", help="Only until images take no more, such as 20GB")
    ] = "",
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask")] = False,
) -> None:
    """Remove images that nothing uses."""
    operate.refuse_dry_run(ctx.obj, "image prune")
    operate.exclusive(all=every, keep=bool(keep))
    operate.exclusive(filter=bool(filters), keep=bool(keep))
    budget = formats.parse_size(keep) if keep else None
    wanted = listing.filters(filters, ("until", "label"))
    what = "all images that no container uses" if every else "all images without a name that no container uses"
    if not force and not rm.confirm(f"This removes {what}.\nAre you sure? [yN] "):
        return
    opened = imaging.Images.change()
    if budget is None:
        remove_unused(opened, wanted, every=every)
    else:
        remove_over(opened, budget)
    print(f"Total reclaimed space: {formats.size(gc.collect(opened.where).size)}")


def remove_unused(opened: imaging.Images, wanted: Mapping[str, Sequence[str]], *, every: bool) -> None:
    used = users(opened)
    _forget(
        opened,
        [
            entry
            for entry in opened.catalog.entries()
            if (every or not entry.stored.tags)
            and not used[entry.id]
            and image_ls.matches(opened.catalog, entry, wanted)
        ],
    )


def remove_over(opened: imaging.Images, keep: int) -> None:
    """Those used longest ago first; what containers use stays, and what a project or its lock names goes after all
    others."""
    from devenv.reconcile import locking

    used, named, last = users(opened), _named(opened.where), records.used(opened.where)
    locked = locking.everywhere(opened.where)
    entries = {entry.stored.target.digest: entry for entry in opened.catalog.entries() if not used[entry.id]}
    order = sorted(
        entries.values(),
        key=lambda entry: (
            entry.stored.target.digest in locked or bool(named & set(entry.stored.tags)),
            last.get(entry.stored.target.digest, entry.stored.added),
        ),
    )
    chosen = usage.over_budget(usage.take(opened.where), [entry.stored.target.digest for entry in order], keep)
    _forget(opened, [entries[digest] for digest in chosen])


def _named(where: paths.Paths) -> set[str]:
    """Names of images in the specs of all projects that have been up and not down."""
    from devenv.reconcile import imagemounts

    found: set[str] = set()
    folder = f"{where.data}/projects"
    for project in os.listdir(folder) if os.path.isdir(folder) else []:
        spec = (fs.read_json(f"{folder}/{project}/desired.json") or {}).get("project") or {}
        for service in (spec.get("services") or {}).values():
            for image in [str(service.get("image") or ""), *imagemounts.sources(service)]:
                with contextlib.suppress(errors.ImageError):
                    found.add(str(reference.parse(image)))
    return found


def _forget(opened: imaging.Images, entries: Sequence[catalog.Entry]) -> None:
    lines = []
    for entry in entries:
        lines += [f"untagged: {tag}" for tag in entry.tags]
        lines.append(f"deleted: {entry.stored.target.digest}")
        opened.store.index.remove(entry.stored.target.digest)
    if lines:
        print("Deleted Images:\n" + "".join(f"{line}\n" for line in lines))


def users(opened: imaging.Images) -> defaultdict[str, list[inventory.Container]]:
    """Containers by the ids of their images."""
    found: defaultdict[str, list[inventory.Container]] = defaultdict(list)
    for item in inventory.load(opened.where):
        for image_id in item.record.image_ids:
            found[image_id].append(item)
    return found


def remove(opened: imaging.Images, text: str, *, force: bool, say: Callable[[str], None] = print) -> None:
    """Raises ``ImageError`` for one that a container uses. Layers and blobs stay until the next ``gc.collect``."""
    entry = opened.catalog.find(text)
    names = _names(entry, text)
    if not names:
        # By id: all its names go.
        repositories = {name.rpartition(":")[0] for name in entry.stored.tags}
        if len(repositories) > 1 and not force:
            raise errors.ImageError(
                f"image `{text}` has names in {len(repositories)} repositories",
                hint=f"remove them by name, or all of them by `devenv image rm --force {text}`",
                note=", ".join(entry.tags),
            )
        names = list(entry.stored.tags)
    last = set(names) == set(entry.stored.tags)
    if last:
        _check_unused(opened, entry, text, force=force)
    for name in names:
        opened.store.index.untag(name)
        say(f"Untagged: {reference.parse(name).familiar}")
    if last:
        opened.store.index.remove(entry.stored.target.digest)
        say(f"Deleted: {entry.stored.target.digest}")


def _names(entry: catalog.Entry, text: str) -> list[str]:
    """The one that was meant by ``text``; none when that is an id or a digest."""
    try:
        wanted = str(reference.parse(text))
    except errors.ImageError:
        return []
    return [wanted] if wanted in entry.stored.tags else []


def _check_unused(opened: imaging.Images, entry: catalog.Entry, text: str, *, force: bool) -> None:
    using: Sequence[inventory.Container] = users(opened)[entry.id]
    running = [item for item in using if item.state in inventory.ACTIVE]
    if running or (using and not force):
        item = (running or using)[0]
        raise errors.ImageError(
            f"image `{text}` is used by the container `{item.record.name}`, which is {item.state}",
            hint=f"`devenv -p {item.record.project} down` removes it"
            if running
            else "`--force` removes it all the same",
        )
