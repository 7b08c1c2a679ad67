"""``devenv image diff`` and ``tree``: what is in an image, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer

from devenv import errors
from devenv.cli import formats, imaging, options, terminal
from devenv.image import catalog, content, difference, manifest, snapshot


def command(
    ctx: typer.Context,
    *,
    image: Annotated[str, typer.Argument(metavar="IMAGE", show_default=False)],
    other: Annotated[str, typer.Argument(metavar="[IMAGE]", help="What to compare with", show_default=False)] = "",
    format: options.TableFormat = "table",
) -> None:
    """Show what an image's top layer changes, or how it differs from another image: A added, C changed, D deleted."""
    del ctx
    shape = options.table_format(format)
    opened = imaging.Images.change()
    opaque = snapshot.opaque_attribute()
    new = _folders(opened, opened.catalog.find(image))
    if other:
        found = difference.between(_folders(opened, opened.catalog.find(other)), new, opaque=opaque)
    else:
        top, *lower = new
        found = difference.of_top(top, lower, opaque=opaque)
    show(found, shape)


def show(found: Iterable[difference.Change], shape: options.Format) -> None:
    """podman's field names, of which docker has none."""
    if shape is options.Format.JSON:
        names = {"A": "added", "C": "changed", "D": "deleted"}
        lists: dict[str, list[str]] = {}
        for each in found:
            lists.setdefault(names[each.kind], []).append(each.path)
        print(json.dumps(lists))
        return
    for each in found:
        print(f"{each.kind} {terminal.visible(each.path)}")


def _folders(opened: imaging.Images, entry: catalog.Entry) -> list[str]:
    """All its layers, unpacked; the topmost first."""
    if not entry.manifest.layers:
        raise errors.ImageError(f"image `{entry.id}` has no layers")
    what = f"image `{entry.id}`"
    config = opened.catalog.read(entry.manifest.config)
    given = manifest.assemble(entry.manifest, config, opened.store.blobs.source, verify=False, what=what)
    return unpacked(opened, given, what=what)


def unpacked(opened: imaging.Images, given: content.Content, *, what: str) -> list[str]:
    return [each.folder for each in snapshot.prepare(opened.where, given, held=opened.store.held, what=what)][::-1]


def tree(ctx: typer.Context, *, image: Annotated[str, typer.Argument(metavar="IMAGE", show_default=False)]) -> None:
    """Show the layers of an image, and which other images end with them."""
    del ctx
    opened = imaging.Images.open()
    entry = opened.catalog.find(image)
    tops = {each.chain_ids[-1]: each.tags for each in opened.catalog.entries() if each.chain_ids}
    sizes = catalog.layer_sizes(opened.where, entry.chain_ids)
    print(f"Image ID: {imaging.short(entry.id)}")
    print(f"Tags:     {', '.join(entry.tags) or '<none>'}")
    print(f"Size:     {formats.size(opened.catalog.size(entry))}")
    print("Image Layers")
    for number, (chain_id, layer) in enumerate(zip(entry.chain_ids, entry.manifest.layers, strict=False)):
        last = number + 1 == len(entry.chain_ids)
        size = sizes[chain_id]
        unpacked = f"Size: {formats.size(size)}" if size else f"Size: {formats.size(layer.size)} packed"
        named = f" Top Layer of: [{', '.join(tops[chain_id])}]" if tops.get(chain_id) else ""
        print(f"{'└──' if last else '├──'} ID: {chain_id[:12]} {unpacked}{named}")
