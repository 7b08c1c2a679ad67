"""``devenv image rm`` and ``prune``: names go first, an image with its last name, and then what nothing needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import formats, image_ls, imaging, inventory, listing, operate, rm, terminal
from devenv.image import catalog, gc, reference

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
            _remove(opened, text, force=force)
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
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask")] = False,
) -> None:
    """Remove images that nothing uses."""
    operate.refuse_dry_run(ctx.obj, "image prune")
    wanted = listing.filters(filters, ("until", "label"))
    what = "all images that no container uses" if every else "all images without a name that no container uses"
    if not force and not rm.confirm(f"This removes {what}.\nAre you sure? [yN] "):
        return
    opened = imaging.Images.change()
    used = users(opened)
    lines = []
    for entry in opened.catalog.entries():
        if (every or not entry.stored.tags) and not used[entry.id] and image_ls.matches(opened.catalog, entry, wanted):
            lines += [f"untagged: {tag}" for tag in entry.tags]
            lines.append(f"deleted: {entry.stored.target.digest}")
            opened.store.index.remove(entry.stored.target.digest)
    collected = gc.collect(opened.where)
    if lines:
        print("Deleted Images:\n" + "".join(f"{line}\n" for line in lines))
    print(f"Total reclaimed space: {formats.size(collected.size)}")


def users(opened: imaging.Images) -> defaultdict[str, list[inventory.Container]]:
    """Containers by the id of their image."""
    found: defaultdict[str, list[inventory.Container]] = defaultdict(list)
    for item in inventory.load(opened.where):
        found[item.record.image_id].append(item)
    return found


def _remove(opened: imaging.Images, text: str, *, force: bool) -> None:
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
        print(f"Untagged: {reference.parse(name).familiar}")
    if last:
        opened.store.index.remove(entry.stored.target.digest)
        print(f"Deleted: {entry.stored.target.digest}")


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
