"""``cache_to`` and ``cache_from``: results of steps for other machines, in a folder or in a registry.

    manifest ─▶ config: which key has which layer, and which cache mount which files
            └─▶ layers, compressed

A folder is an OCI layout of one such artifact. Nothing of a layer is fetched before a step turns out to want it. Where
a cache can't be read the build goes on without: it is an aid.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from devenv import errors
from devenv.build import cachemounts, layers, request
from devenv.image import below as below_
from devenv.image import blobs as blobs_
from devenv.image import buildcache, compressed, content, create, descriptor, pack, reference, snapshot, unpack
from devenv.image import layer as layer_
from devenv.util import fs

CONFIG = "application/vnd.devenv.build-cache.v1+json"
VERSION = 1
LOCAL, REGISTRY, INLINE = "local", "registry", "inline"
_YES = frozenset({"1", "true"})

Fetch = Callable[[descriptor.Descriptor], None]  # into the store


class Offer(NamedTuple):
    """What a cache has for one key."""

    entry: buildcache.Entry
    fetch: Fetch


# -- taking -----------------------------------------------------------------------------------------------------------


def offers(
    wanted: Sequence[request.Exchange], tools: layers.Tools, held: contextlib.ExitStack, *, environ: Mapping[str, str]
) -> tuple[dict[str, Offer], list[str]]:
    """By key; and what could not be read, in words."""
    found: dict[str, Offer] = {}
    notes = []
    for each in wanted:
        if each.kind == INLINE:
            continue
        try:
            opened = _folder(each, tools) if each.kind == LOCAL else _registry(each, tools, held, environ)
        except (errors.ImageError, OSError) as exc:
            notes.append(f"the cache `{_place(each)}` can't be read: {exc}")
            continue
        for entry in opened.entries:
            found.setdefault(entry.key, Offer(entry, opened.fetch))
        _take_mounts(opened, tools)
    return found, notes


class _Opened(NamedTuple):
    entries: list[buildcache.Entry]
    mounts: list[tuple[str, descriptor.Descriptor]]
    fetch: Fetch


def _place(each: request.Exchange) -> str:
    return each.fields.get("src") or each.fields.get("dest") or each.fields.get("ref") or each.kind


def _folder(each: request.Exchange, tools: layers.Tools) -> _Opened:
    folder = each.fields.get("src", "")

    def path(of: descriptor.Descriptor) -> str:
        return f"{folder}/blobs/sha256/{of.hex}"

    def read(of: descriptor.Descriptor) -> bytes:
        data = content.read_file(path(of), what="the build cache")
        blobs_.check(data, of, what="the build cache")
        return data

    def fetch(of: descriptor.Descriptor) -> None:
        with tools.blobs.ingest(of, held=tools.held, what="the build cache") as arriving:
            if not arriving.complete:
                with open(path(of), "rb") as file:
                    file.seek(arriving.offset)
                    while data := file.read(1 << 20):
                        arriving.write(data)
                arriving.commit()

    index = content.parse_json(content.read_file(f"{folder}/index.json", what="the build cache"), what="the cache")
    targets = index.get("manifests") or []
    return _read(descriptor.parse(targets[0] if targets else None, what="the build cache"), read, fetch)


def _registry(
    each: request.Exchange, tools: layers.Tools, held: contextlib.ExitStack, environ: Mapping[str, str]
) -> _Opened:
    from devenv.image.registry import client

    wanted = reference.parse(each.fields.get("ref", ""))
    talk = client.Client(environ)
    held.callback(talk.close)
    root = talk.resolver(wanted).root()
    fetcher = talk.fetcher(wanted)

    def fetch(of: descriptor.Descriptor) -> None:
        with tools.blobs.ingest(of, held=tools.held, what="the build cache") as arriving:
            if not arriving.complete:
                fetcher.fetch(of, arriving)
                arriving.commit()

    def read(of: descriptor.Descriptor) -> bytes:
        if of.digest == root.descriptor.digest:
            return root.data
        fetch(of)
        return tools.blobs.read(of, what="the build cache")

    return _read(root.descriptor, read, fetch)


def _read(target: descriptor.Descriptor, read: Callable[[descriptor.Descriptor], bytes], fetch: Fetch) -> _Opened:
    document = content.parse_json(read(target), what="the build cache")
    config = descriptor.parse(document.get("config"), what="the build cache")
    if config.media_type != CONFIG:
        raise errors.ImageError("it is no build cache of devenv's")
    value = content.parse_json(read(config), what="the build cache")
    if value.get("version") != VERSION:
        raise errors.ImageError("it was made by another devenv")
    entries = [
        buildcache.Entry(
            str(one["key"]),
            descriptor.check_digest(one["diff_id"], what="the build cache"),
            descriptor.parse(one["blob"], what="the build cache"),
            str(one["chain_id"]),
            str(one["created"]),
            str(one["name"]),
            settled=False,
        )
        for one in value["entries"]
    ]
    mounts = [(str(one["id"]), descriptor.parse(one["blob"], what="the build cache")) for one in value["mounts"]]
    return _Opened(entries, mounts, fetch)


def _take_mounts(opened: _Opened, tools: layers.Tools) -> None:
    """Those that are not here yet."""
    there = {each.name for each in cachemounts.every(tools.where)}
    for name, blob in opened.mounts:
        if name in there:
            continue

        def fill(folder: str, blob: descriptor.Descriptor = blob) -> None:
            opened.fetch(blob)
            given = content.Layer(tools.blobs.source(blob), layer_.ANY)
            unpacker = unpack.Unpacker(folder, below_.Below((), opaque=snapshot.opaque_attribute()), opaque="")
            with contextlib.closing(unpacker), layer_.Stream(given) as stream:
                unpacker.run(stream.chunks())

        with cachemounts.held(tools.where, name, sharing=cachemounts.SHARED, fill=fill):
            pass


# -- giving -----------------------------------------------------------------------------------------------------------


def give(
    each: request.Exchange,
    entries: Sequence[buildcache.Entry],
    tools: layers.Tools,
    *,
    mounts: Sequence[str],
    environ: Mapping[str, str],
) -> None:
    """``mounts``: the names of those that the build used. Raises ``BuildError``, ``ImageError``."""
    if each.kind == INLINE:
        raise errors.BuildError(
            "`cache_to: type=inline` is not built in", hint="type=registry,ref=NAME keeps it beside the image"
        )
    taker = create.Taker(tools.blobs, held=tools.held, what="the build cache")
    found = [
        entry._replace(blob=compressed.layer(tools.where, tools.blobs, entry.blob, held=tools.held))
        for entry in entries
    ]
    kept = _packed_mounts(mounts, taker, tools) if each.fields.get("mounts") in _YES else []
    config = {
        "version": VERSION,
        "entries": [
            {**entry._asdict(), "blob": descriptor.to_json(entry.blob), "settled": None}
            for entry in sorted(found, key=lambda entry: entry.key)
        ],
        "mounts": [{"id": name, "blob": descriptor.to_json(blob)} for name, blob in kept],
    }
    blobs = {blob.digest: blob for blob in (*(entry.blob for entry in found), *(blob for _, blob in kept))}
    stored = taker.value(config, CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": descriptor.OCI_MANIFEST,
        "config": descriptor.to_json(stored),
        "layers": [descriptor.to_json(blob) for blob in blobs.values()],
    }
    target = taker.value(manifest, descriptor.OCI_MANIFEST)
    if each.kind == LOCAL:
        _to_folder(each.fields.get("dest", ""), target, [stored, *blobs.values()], tools)
    else:
        _to_registry(each.fields.get("ref", ""), target, [stored, *blobs.values()], tools, environ)


def _packed_mounts(
    names: Sequence[str], taker: create.Taker, tools: layers.Tools
) -> list[tuple[str, descriptor.Descriptor]]:
    found = []
    for each in cachemounts.every(tools.where):
        if each.name in names and each.path.endswith(".0"):
            counted = pack.Counted(f"{each.path}/data", opaque=snapshot.opaque_attribute())
            found.append((each.name, create.layer_of(taker, tools.where, counted.chunks()).blob))
    return found


def _to_folder(
    folder: str, target: descriptor.Descriptor, inner: Sequence[descriptor.Descriptor], tools: layers.Tools
) -> None:
    try:
        os.makedirs(f"{folder}/blobs/sha256", exist_ok=True)
        wanted = {each.hex: each for each in (target, *inner)}
        for name, each in wanted.items():
            if not os.path.exists(f"{folder}/blobs/sha256/{name}"):
                temporary = f"{folder}/blobs/sha256/.{os.urandom(6).hex()}"
                shutil.copyfile(tools.blobs.path(each), temporary)
                os.replace(temporary, f"{folder}/blobs/sha256/{name}")
        fs.write_whole(f"{folder}/oci-layout", b'{"imageLayoutVersion":"1.0.0"}', mode=0o644)
        index = {"schemaVersion": 2, "manifests": [descriptor.to_json(target)]}
        fs.write_whole(f"{folder}/index.json", json.dumps(index).encode(), mode=0o644)
        for name in os.listdir(f"{folder}/blobs/sha256"):
            if name not in wanted:
                fs.remove(f"{folder}/blobs/sha256/{name}")
    except OSError as exc:
        raise errors.BuildError(f"the cache `{folder}` can't be written: {exc.strerror}") from exc


def _to_registry(
    text: str,
    target: descriptor.Descriptor,
    inner: Sequence[descriptor.Descriptor],
    tools: layers.Tools,
    environ: Mapping[str, str],
) -> None:
    from devenv.image.registry import client

    wanted = reference.parse(text)
    talk = client.Client(environ)
    try:
        out = talk.pusher(wanted)
        for each in inner:
            out.blob(each, tools.blobs.path(each))
        out.manifest(target, tools.blobs.read(target, what="the build cache"), tag=wanted.tag)
    finally:
        talk.close()
