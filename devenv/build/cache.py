"""Which result a step may have had before: found by what it depends on, and by nothing else.

A key is made of content: the instruction, the layers below by their chain id, what is copied or mounted by its digest.
No times, no names of stages, no secrets. So a stage that was built anew to the same content changes nothing above it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from devenv import errors
from devenv.build import exchange, graph, layers
from devenv.image import buildcache, snapshot

VERSION = 1  # of what a key is made of


def key(vertex: graph.Vertex, inputs: graph.Inputs, parts: graph.Parts) -> str:
    return graph.identity(
        VERSION, None if vertex.alone else layers.chain_id(inputs[0]), vertex.epoch, dict(parts), snapshot_form()
    )


def snapshot_form() -> str:
    """Layers of a user namespace have other ids and attributes than the machine's root has."""
    return snapshot.opaque_attribute()


class Cache:
    """For one build. Safe for threads."""

    def __init__(self, tools: layers.Tools, offers: Mapping[str, exchange.Offer]) -> None:
        self._tools = tools
        self._offers = offers
        self._made: list[buildcache.Entry] = []
        self._guard = threading.Lock()

    def find(self, wanted: str) -> layers.Layer | None:
        """Its blob is here, and stays as long as our lease is held."""
        entry = buildcache.load(self._tools.where, wanted)
        if entry is None:
            return self._offered(wanted)
        self._tools.held.add(entry.blob.digest)
        if not self._tools.blobs.has(entry.blob):
            return self._offered(wanted)
        buildcache.touch(self._tools.where, wanted)
        return layers.Layer(entry.diff_id, entry.blob, entry.created)

    def _offered(self, wanted: str) -> layers.Layer | None:
        offer = self._offers.get(wanted)
        if offer is None:
            return None
        try:
            offer.fetch(offer.entry.blob)
        except (errors.ImageError, OSError):
            return None  # then it is made here
        layer = layers.Layer(offer.entry.diff_id, offer.entry.blob, offer.entry.created)
        self.keep(wanted, layer, chain_id=offer.entry.chain_id, name=offer.entry.name)
        return layer

    def keep(self, wanted: str, layer: layers.Layer, *, chain_id: str, name: str) -> None:
        entry = buildcache.Entry(wanted, layer.diff_id, layer.blob, chain_id, layer.created, name, settled=False)
        buildcache.save(self._tools.where, entry)
        with self._guard:
            self._made.append(entry)

    def settle(self) -> None:
        """Make what was built survive a power cut. Takes as long as the disk needs."""
        made, self._made = self._made, []
        if not made:
            return
        loaded = (snapshot.load(self._tools.where, each.chain_id) for each in made)
        snapshot.settle(self._tools.where, [each for each in loaded if each is not None])
        buildcache.settle(self._tools.where, made)


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the parts of two keys, in words for people."""
    found = []
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            found += _difference(name, before.get(name), now.get(name))
    return found


def _difference(name: str, before: Any, now: Any) -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = sorted(each for each in {*before, *now} if before.get(each) != now.get(each))
        return [f"{name} {_verb(before, now, each)} `{each}`" for each in names]
    return [f"{name} changed"]


def _verb(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> str:
    return "added" if name not in before else "removed" if name not in now else "changed"
