"""Images that a service uses beside its own: volumes of `type: image`, and what its `pre_start` hooks run in.

A volume is another image's files, read-only, at a place of the container's.

They are had with the services' own images, by the service's `pull_policy` and the lock. What each came to is written
into the volume's entry, so that a container knows which image it has mounted, and one that has moved makes it anew:

    {type: image, source: models:1, target: /models, image: {subpath: en, reference: models@sha256:…, digest: sha256:…}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from devenv import errors
from devenv.image import store as image_store
from devenv.reconcile import building, convert, desired, pulling
from devenv.runtime import bundle
from devenv.volume import bind

Entry = Mapping[str, Any]


def wishes(environment: desired.Environment, services: Iterable[str], *, override: str = "") -> Iterator[pulling.Wish]:
    """One for each image that one of the services mounts or prepares itself with."""
    for name in services:
        for stand_in in stand_ins(environment.project, name):
            yield pulling.wish(name, stand_in, override=override)


def stand_ins(project: Mapping[str, Any], name: str) -> Iterator[convert.Service]:
    """Each as a service would be described that runs it: image, platform and policy."""
    every = project["services"]
    service = every[name]
    built = {
        building.image_name(str(project["name"]), other, each) for other, each in every.items() if each.get("build")
    }
    policy = service.get("pull_policy")
    for source in sources(service):
        yield {
            "image": source,
            "platform": service.get("platform"),
            "pull_policy": None if policy == "build" else policy,
            "build": {} if source not in built else {"context": "."},
        }


def sources(service: convert.Service) -> list[str]:
    """The images, by their names in the spec."""
    mounted = [entry["source"] for entry in service.get("volumes") or [] if is_one(entry)]
    own = service.get("image")
    hooks = [hook["image"] for hook in service.get("pre_start") or [] if hook.get("image") not in {None, own}]
    return list(dict.fromkeys([*mounted, *hooks]))


def is_one(entry: Entry) -> bool:
    return entry.get("type") == "image"


def resolved(
    environment: desired.Environment, found: Mapping[pulling.Wish, image_store.Image], pinned: Mapping[str, str]
) -> desired.Environment:
    """The environment, with what those images came to. ``pinned``: by source, the reference that was had."""
    digests = {(wish.service, wish.reference): image.digest for wish, image in found.items()}

    def settled(name: str, entry: Entry) -> Entry:
        if not is_one(entry) or (name, entry["source"]) not in digests:
            return entry
        more = {"reference": pinned[entry["source"]], "digest": digests[name, entry["source"]]}
        return {**entry, "image": {**(entry.get("image") or {}), **more}}

    def prepared(name: str, hook: Entry) -> Entry:
        image = hook.get("image")
        if (name, image) not in digests:
            return hook
        return {**hook, "reference": pinned[str(image)], "digest": digests[name, str(image)]}

    def all_of(name: str, service: convert.Service) -> convert.Service:
        if not sources(service):
            return service
        found = dict(service)
        for key, settle in (("volumes", settled), ("pre_start", prepared)):
            if service.get(key):
                found[key] = [settle(name, each) for each in service[key]]
        return found

    services = {name: all_of(name, service) for name, service in environment.services.items()}
    return dataclasses.replace(environment, project={**environment.project, "services": services})


def mount(
    entry: Entry, service: convert.Service, store: image_store.ImageStore, *, base: str
) -> tuple[bundle.Mount, str]:
    """The mount, and the image's id. Raises ``ImageError``, and ``VolumeError`` for a subpath that is not in it."""
    options = entry.get("image") or {}
    reference = str(options.get("reference") or entry["source"])
    image = store.resolve(reference, base=base, wanted_platform=str(service.get("platform") or ""))
    if image.overlays or image.binds:
        raise errors.VolumeError(
            f"`{entry['source']}` can't be mounted as an image: it is the machine's own system",
            hint="a folder of the machine's is mounted with `type: bind`",
        )
    subpath = str(options.get("subpath") or "")
    if len(image.lower) > 1:
        layered = bundle.Mount("overlay", "overlay", entry["target"], ("ro",), layers=image.lower, subpath=subpath)
        return layered, image.digest
    source = bind.beneath(image.lower[0], subpath) if subpath else image.lower[0]
    return bundle.Mount("bind", source, entry["target"], ("bind", "ro", "rprivate")), image.digest
