"""``devenv image ls``: the images in the store, as ``docker image ls``."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import formats, imaging, listing, options
from devenv.image import catalog, reference

KNOWN = ("dangling", "label", "before", "since", "reference", "until")
NONE = "<none>"


def command(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="[REPOSITORY[:TAG]]", show_default=False)] = "",
    every: Annotated[bool, typer.Option("--all", "-a", hidden=True)] = False,
    digests: Annotated[bool, typer.Option("--digests", help="Show digests")] = False,
    filters: listing.Filters = None,
    format: listing.Format = "table",
    no_trunc: listing.NoTrunc = False,
    quiet: options.Quiet = False,
) -> None:
    """List images."""
    del ctx, every
    images = imaging.Images.open()
    wanted = listing.filters(filters, KNOWN)
    chosen = [each for each in images.catalog.entries() if matches(images.catalog, each, wanted)]
    rows = [
        row for each in chosen for row in _rows(images, each, name, wanted.get("reference", []), truncate=not no_trunc)
    ]
    if quiet:
        print("".join(f"{digest}\n" for digest in dict.fromkeys(str(row["ID"]) for row in rows)), end="")
        return
    columns = {"REPOSITORY": "Repository", "TAG": "Tag"} | ({"DIGEST": "Digest"} if digests else {})
    listing.show(rows, format, columns | {"IMAGE ID": "ID", "CREATED": "CreatedSince", "SIZE": "Size"})


def matches(images: catalog.Catalog, entry: catalog.Entry, wanted: Mapping[str, Sequence[str]]) -> bool:
    """All filters but ``reference``, which is about names."""
    for key, values in wanted.items():
        if key == "dangling":
            found = any(listing.truth(value, option="dangling") == (not entry.stored.tags) for value in values)
        elif key == "label":
            found = all(_has_label(entry, value) for value in values)
        elif key == "before":
            found = all(entry.created < images.find(value).created for value in values)
        elif key == "since":
            found = all(entry.created > images.find(value).created for value in values)
        elif key == "until":
            now = time.time()
            found = all(entry.created < formats.moment(value, now=now, option="--filter until") for value in values)
        else:
            found = True
        if not found:
            return False
    return True


def _has_label(entry: catalog.Entry, wanted: str) -> bool:
    key, sign, value = wanted.partition("=")
    return key in entry.labels and (not sign or entry.labels[key] == value)


def _rows(
    images: imaging.Images, entry: catalog.Entry, name: str, patterns: Sequence[str], *, truncate: bool
) -> list[dict[str, Any]]:
    names = [parsed for tag in entry.stored.tags if _is_meant(parsed := reference.parse(tag), name, patterns)]
    shown = [(_repository(parsed), parsed.tag) for parsed in names]
    if not shown and (name or patterns or entry.stored.tags):
        return []
    if not shown:
        known = [_repository(reference.parse(repository)) for repository in entry.stored.repositories]
        shown = [(known[0] if known else NONE, NONE)]
    now = time.time()
    size = formats.size(images.catalog.size(entry))
    return [
        {
            "Containers": "N/A",
            "CreatedAt": formats.timestamp(entry.created),
            "CreatedSince": f"{formats.duration(now - entry.created)} ago" if entry.created else "N/A",
            "Digest": entry.stored.target.digest,
            "ID": imaging.short(entry.id) if truncate else entry.id,
            "Repository": repository,
            "SharedSize": "N/A",
            "Size": size,
            "Tag": tag,
            "UniqueSize": "N/A",
        }
        for repository, tag in shown
    ]


def _repository(parsed: reference.Reference) -> str:
    return parsed._replace(tag="", digest="").familiar


def _is_meant(parsed: reference.Reference, name: str, patterns: Sequence[str]) -> bool:
    if name:
        wanted = reference.parse(name)
        tagged = ":" in name.rpartition("/")[2]
        if wanted.transport is not reference.Transport.REGISTRY or wanted.digest:
            raise errors.UsageError(f"`{name}` is not of the form REPOSITORY or REPOSITORY:TAG")
        if (wanted.registry, wanted.repository) != (parsed.registry, parsed.repository):
            return False
        if tagged and wanted.tag != parsed.tag:
            return False
    familiar = (parsed.familiar, _repository(parsed), str(parsed))
    return not patterns or any(fnmatch.fnmatchcase(each, pattern) for each in familiar for pattern in patterns)
