"""``devenv image inspect`` and ``history``: what an image says of itself, in Docker's field names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import formats, imaging, listing, options
from devenv.image import catalog


def command(
    ctx: typer.Context,
    *,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", show_default=False)],
    format: listing.InspectFormat = "",
) -> None:
    """Show all about images."""
    del ctx
    opened = imaging.Images.open()
    found, problems = [], []
    for text in images:
        try:
            found.append(described(opened, opened.catalog.find(text)))
        except errors.DevenvError as exc:
            problems.append(exc)
    listing.show_inspected(found, format)
    listing.report(problems)


def described(opened: imaging.Images, entry: catalog.Entry) -> dict[str, Any]:
    config = entry.config
    target = entry.stored.target
    return {
        "Id": entry.id,
        "RepoTags": entry.tags,
        "RepoDigests": entry.digests,
        "Comment": str(config.get("comment") or ""),
        "Created": str(config.get("created") or ""),
        "Author": str(config.get("author") or ""),
        "Config": config.get("config") or {},
        "Architecture": str(config.get("architecture") or ""),
        **({"Variant": str(config["variant"])} if config.get("variant") else {}),
        "Os": str(config.get("os") or ""),
        "Size": opened.catalog.size(entry),
        "RootFS": {"Type": "layers", "Layers": list((config.get("rootfs") or {}).get("diff_ids") or [])},
        "Metadata": {"LastTagTime": formats.rfc3339(entry.stored.added)},
        "Descriptor": {"mediaType": target.media_type, "digest": target.digest, "size": target.size},
    }


def history(
    ctx: typer.Context,
    *,
    image: Annotated[str, typer.Argument(metavar="IMAGE", show_default=False)],
    format: listing.Format = "table",
    human: Annotated[bool, typer.Option("--human/--no-human", "-H", help="Sizes and times for people")] = True,
    no_trunc: listing.NoTrunc = False,
    quiet: options.Quiet = False,
) -> None:
    """Show how an image came to be."""
    del ctx
    opened = imaging.Images.open()
    entry = opened.catalog.find(image)
    rows = _steps(opened, entry, human=human, truncate=not no_trunc)
    if quiet:
        print("".join(f"{row['ID']}\n" for row in rows), end="")
        return
    columns = {"IMAGE": "ID", "CREATED": "CreatedSince", "CREATED BY": "CreatedBy", "SIZE": "Size"}
    if not human:
        columns["CREATED"] = "CreatedAt"
    listing.show(rows, format, {**columns, "COMMENT": "Comment"})


def _steps(opened: imaging.Images, entry: catalog.Entry, *, human: bool, truncate: bool) -> list[dict[str, Any]]:
    """The newest first. Layers that no step tells of come last."""
    given = [step for step in entry.config.get("history") or [] if isinstance(step, Mapping)]
    unpacked = catalog.layer_sizes(opened.where, entry.chain_ids)
    sizes = [unpacked[chain_id] or each.size for chain_id, each in zip(unpacked, entry.manifest.layers, strict=False)]
    steps = []
    for step in given:
        size = 0 if step.get("empty_layer") or not sizes else sizes.pop(0)
        steps.append(_step(step, size, human=human, truncate=truncate))
    steps = [_step({}, size, human=human, truncate=truncate) for size in sizes] + steps
    if steps:
        steps[-1]["ID"] = imaging.short(entry.id) if truncate else entry.id
    return steps[::-1]


def _step(step: Mapping[str, Any], size: int, *, human: bool, truncate: bool) -> dict[str, Any]:
    created = catalog.moment(step.get("created"))
    words = " ".join(str(step.get("created_by") or "").split())
    return {
        "ID": "<missing>",
        "CreatedAt": formats.rfc3339(created)[:19] + "Z",
        "CreatedSince": f"{formats.duration(time.time() - created)} ago" if created else "N/A",
        "CreatedBy": f"{words[:44]}…" if truncate and len(words) > 45 else words,
        "Size": formats.size(size) if human else str(size),
        "Comment": str(step.get("comment") or ""),
    }
