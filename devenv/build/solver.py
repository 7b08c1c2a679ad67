"""From requests to images: read, converted, executed, put into the store.

All requests of one call are one graph: a step that two of them share is done once, and what is independent is done at
once. Whoever calls is root, or has entered the user's namespace.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from devenv import errors
from devenv.build import (
    bases,
    convert,
    exchange,
    execution,
    image,
    layers,
    network,
    outputs,
    progress,
    request,
    result,
    run,
    running,
    scope,
    sources,
    upkeep,
    why,
    work,
)
from devenv.build.dockerfile import instructions, parser, rules
from devenv.image import buildcache, create, descriptor, manifest, reference
from devenv.image import store as image_store
from devenv.util import paths


class _Image(NamedTuple):
    request: request.Request
    dockerfile: instructions.Dockerfile
    found: bases.Bases
    converted: list[convert.Converted]  # one for each platform


def solve(
    requests: Sequence[request.Request],
    *,
    where: paths.Paths,
    store: image_store.ImageStore,
    tell: progress.Tell,
) -> list[result.Result]:
    """In the order of the requests. Raises ``BuildError`` placed where a line is to blame, ``ImageError``, and what
    interrupts; then nothing runs on. ``store`` keeps what was made until it is closed."""
    with contextlib.ExitStack() as held:
        tools = layers.Tools(where, store.blobs, store.held)
        machine = run.Machine(running.Running(where), network.Network(where))
        held.callback(upkeep.clear_steps, where)
        held.callback(machine.running.close)
        held.callback(machine.network.close)
        upkeep.clear_steps(where, machine)
        images = [
            _read(
                each,
                bases.Bases(where, store, each, tell=tell),
                sources.Sources(where, each, held),
                machine,
            )
            for each in requests
        ]
        done = execution.Execution(
            where,
            tools,
            machine,
            tell=tell,
            debug=any(each.debug for each in requests),
            offers=_offers(requests, tools, held, tell),
        )
        done.run([each.draft.vertex for one in images for each in one.converted])
        results = [_finish(each, where, store, tools, done) for each in images]
        done.cache.settle()
    return results


def _offers(
    requests: Sequence[request.Request], tools: layers.Tools, held: contextlib.ExitStack, tell: progress.Tell
) -> dict[str, exchange.Offer]:
    found: dict[str, exchange.Offer] = {}
    for each in requests:
        offered, notes = exchange.offers(each.cache_from, tools, held, environ=each.environ)
        found = {**offered, **found}
        for note in notes:
            tell(progress.Step(id="cache", state=progress.State.WARNING, name="cache", service=each.service, text=note))
    return found


def _read(given: request.Request, found: bases.Bases, source: sources.Sources, machine: run.Machine) -> _Image:
    text, source.dockerfile = dockerfile(given, source)
    read = parser.parse(text, file=source.dockerfile or "Dockerfile")
    rules.refuse(read, read.warnings)
    wanted = [scope.wanted(each) for each in given.platforms] or [scope.own()]
    converted = [
        convert.Converter(
            given,
            read,
            target=each,
            found=found,
            source=source,
            machine=machine,
            prefix=str(each) if len(wanted) > 1 else "",
        ).convert()
        for each in wanted
    ]
    return _Image(given, read, found, converted)


def dockerfile(given: request.Request, source: sources.Sources) -> tuple[str | bytes, str]:
    """Its text, and its path; "" for one that is no file."""
    if given.inline is not None:
        return given.inline, ""
    if given.dockerfile.startswith(("http://", "https://")):
        path = source.fetching().fetcher.file(given.dockerfile).path
        return _text(path), ""
    context = source.place()
    if context.dockerfile is not None:
        return context.dockerfile, ""
    path = os.path.join(context.folder, given.dockerfile or _usual(context.folder))
    return _text(path), path


def _usual(folder: str) -> str:
    there = (name for name in ("Dockerfile", "Containerfile") if os.path.exists(f"{folder}/{name}"))
    return next(there, "Dockerfile")


def _text(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise errors.BuildError(f"the Dockerfile `{path}` can't be read: {exc.strerror}") from exc


def _finish(
    built: _Image,
    where: paths.Paths,
    store: image_store.ImageStore,
    tools: layers.Tools,
    done: execution.Execution,
) -> result.Result:
    given = built.request
    what = f"image `{given.tags[0] if given.tags else given.service or 'that is built'}`"
    taker = create.Taker(store.blobs, held=store.held, what=what)
    made = [
        (
            each.platform,
            image.make(
                taker,
                each,
                done.states[each.draft.vertex.id],
                done.made,
                labels=given.labels,
                now=execution.timestamp(each.epoch),
            ),
        )
        for each in built.converted
    ]
    target = made[0][1].target if len(made) == 1 else image.index(taker, made)
    tags = outputs.names(given)
    states = tuple((each.platform, done.states[each.draft.vertex.id]) for each in built.converted)
    for each in given.outputs:
        outputs.write(each, outputs.Built(target, states), tags, tools)
    kept: descriptor.Descriptor | None = None
    if outputs.is_kept(given):
        kept = _name(store, target, tags, made[0][1].id)
    if outputs.is_pushed(given):
        outputs.push(given, tags, store, where)
        kept = _called(store, tags[0]) or kept
    told = [
        done.told[each.id] for each in execution.ordered([one.draft.vertex for one in built.converted]) if each.work
    ]
    for exchanged in given.cache_to:
        entries = [entry for each in told if (entry := buildcache.load(where, each.key)) is not None]
        exchange.give(exchanged, entries, tools, mounts=_mounts(told), environ=given.environ)
    why.record(where, given, [_done(each, done) for each in told])
    return result.Result(
        target=kept,
        id=made[0][1].id,
        tags=tags,
        bases=tuple(built.found.named),
        warnings=built.dockerfile.warnings,
        steps=len(told),
        cached=sum(each.cached for each in told),
    )


def _mounts(told: Sequence[execution.Told]) -> list[str]:
    """The names of the cache mounts that the steps have."""
    steps = (each.vertex.work for each in told)
    return [one.id for step in steps if isinstance(step, work.Run) for one in step.mounts if one.kind == "cache"]


def _done(told: execution.Told, done: execution.Execution) -> why.Done:
    vertex = told.vertex
    below = layers.chain_id(done.states[vertex.inputs[0].id])
    return why.Done(vertex.name, below, told.parts, told.cached, vertex.fresh)


def _name(
    store: image_store.ImageStore, target: descriptor.Descriptor, tags: Sequence[str], config: str
) -> descriptor.Descriptor:
    """Not written again when it is so already: that takes a sync of the disk. What was pushed is the same image with
    compressed layers, and stays what its names mean."""
    for each in store.index.images():
        same = each.target.digest == target.digest
        if (same or (tags and _config(store, each.target) == config)) and set(tags) <= set(each.tags):
            return each.target
    bare = descriptor.Descriptor(target.media_type, target.digest, target.size)
    store.index.put(bare, tags=tags)
    return bare


def _config(store: image_store.ImageStore, target: descriptor.Descriptor) -> str:
    """Its digest; "" of an index, and of what is not here."""
    if target.media_type not in descriptor.MANIFESTS or not store.blobs.has(target):
        return ""
    data = store.blobs.read(target, what="an image")
    return manifest.parse(data, target, what="an image").config.digest


def _called(store: image_store.ImageStore, tag: str) -> descriptor.Descriptor | None:
    found = store.index.find(reference.parse(tag))
    return found.target if found is not None else None
