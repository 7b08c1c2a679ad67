"""The image at the end: its config and manifest in the store, as BuildKit would have written them.

What a history entry says of its time comes from the layer, so that an image whose steps were all in the cache is the
same image again, bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from devenv.build import convert, history, layers
from devenv.image import create, descriptor

_UNKNOWN = "1970-01-01T00:00:00Z"
_ORDER = (
    "architecture",
    "os",
    "variant",
    "os.version",
    "os.features",
    "author",
    "config",
    "created",
    "history",
    "rootfs",
)


class Made(NamedTuple):
    target: descriptor.Descriptor  # of the manifest
    id: str  # of the config
    config: Mapping[str, Any]


def make(
    taker: create.Taker,
    converted: convert.Converted,
    state: layers.State,
    made: Mapping[str, layers.Layer],
    *,
    labels: Mapping[str, str],
    now: str,
) -> Made:
    """``made``: by a vertex' id, the layer that it added."""
    config = describe(converted, state, made, labels=labels, now=now)
    stored = taker.value(config, descriptor.OCI_CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": descriptor.OCI_MANIFEST,
        "config": descriptor.to_json(stored),
        "layers": [descriptor.to_json(create.as_oci(each.blob)) for each in state],
    }
    return Made(taker.value(manifest, descriptor.OCI_MANIFEST), stored.digest, config)


def describe(
    converted: convert.Converted,
    state: layers.State,
    made: Mapping[str, layers.Layer],
    *,
    labels: Mapping[str, str],
    now: str,
) -> dict[str, Any]:
    draft = converted.draft
    lines = _history(draft, made, now=now)
    config = dict(draft.config)
    if labels:
        config["Labels"] = {**(config.get("Labels") or {}), **labels}
    found: dict[str, Any] = {
        "architecture": converted.platform.architecture,
        "os": converted.platform.os,
        "variant": converted.platform.variant,
        "author": draft.author,
        "config": config,
        "created": lines[-1]["created"] if lines else str(draft.base.get("created") or now),
        "history": [*_below(draft.base), *lines],
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in state]},
    }
    return {name: found[name] for name in _ORDER if found.get(name) not in (None, "")}


def _below(base: Mapping[str, Any]) -> list[Any]:
    """The base's history, with a line for each layer that has none: who counts relies on them."""
    lines = list(base.get("history") or [])
    count = len((base.get("rootfs") or {}).get("diff_ids") or [])
    missing = count - sum(not each.get("empty_layer") for each in lines)
    return [*lines, *({"created": base.get("created") or _UNKNOWN, "created_by": ""} for _ in range(missing))]


def _history(draft: convert.Draft, made: Mapping[str, layers.Layer], *, now: str) -> list[dict[str, Any]]:
    times = [made[line.vertex.id].created if line.vertex else "" for line in draft.lines]
    # A line without a layer is as old as the one before; the first ones as the first layer after them.
    last = next((each for each in times if each), now)
    lines = []
    for line, time in zip(draft.lines, times, strict=True):
        last = time or last
        entry: dict[str, Any] = {"created": last, "created_by": line.text, "comment": history.COMMENT}
        lines.append(entry if line.vertex else {**entry, "empty_layer": True})
    return lines


def index(taker: create.Taker, images: Sequence[tuple[descriptor.Platform, Made]]) -> descriptor.Descriptor:
    """Of several platforms."""
    entries = []
    for platform, image in images:
        given = {"architecture": platform.architecture, "os": platform.os}
        if platform.variant:
            given["variant"] = platform.variant
        entries.append(descriptor.to_json(image.target, platform=given))
    return taker.value(
        {"schemaVersion": 2, "mediaType": descriptor.OCI_INDEX, "manifests": entries}, descriptor.OCI_INDEX
    )
