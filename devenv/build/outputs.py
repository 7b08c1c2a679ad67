"""``--output``: what was built as files, in an archive, in the store or in a registry.

local    the files, in a folder; one for each platform if there are several
tar      the files, in one archive
oci      an archive with a layout; docker: one that docker loads
image    the store, under the request's names and those of `name=`; registry: and pushed
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from devenv import errors
from devenv.build import context, layers, request, selection, transfer
from devenv.image import compressed, descriptor, pack, reference, saving, snapshot
from devenv.image import store as image_store
from devenv.util import paths

KEPT = frozenset({"image", "registry"})  # that end in the store


class Built(NamedTuple):
    target: descriptor.Descriptor
    platforms: tuple[tuple[descriptor.Platform, layers.State], ...]


def names(given: request.Request) -> tuple[str, ...]:
    """What the image is called in the store. Raises ``BuildError``."""
    more = [
        _named(text)
        for each in given.outputs
        if each.kind in {*KEPT, "docker", "oci"}
        for text in (each.fields.get("name") or "").split(",")
        if text
    ]
    return tuple(dict.fromkeys((*given.tags, *more)))


def is_kept(given: request.Request) -> bool:
    """Whether the image ends in the store."""
    return not given.outputs or given.push or any(each.kind in KEPT for each in given.outputs)


def is_pushed(given: request.Request) -> bool:
    return given.push or any(
        each.kind == "registry" or each.fields.get("push") in {"true", "1"} for each in given.outputs
    )


def write(each: request.Output, built: Built, tags: Sequence[str], tools: layers.Tools) -> None:
    """Raises ``BuildError``, ``ImageError``."""
    if each.kind in KEPT:
        return
    try:
        if each.kind == "local":
            _local(each.path, built, tools)
        elif each.kind == "tar":
            with _written(each.path) as out:
                _tar(built, tools, out)
        elif each.kind in {"oci", "docker"}:
            _archive(each, built, tags, tools)
        else:
            raise errors.BuildError(
                f"there is no output of type `{each.kind}`", hint="it is local, tar, oci, docker, image or registry"
            )
    except OSError as exc:
        raise errors.BuildError(f"`{each.path}` can't be written: {exc.strerror}", hint=f"df -h {each.path}") from exc


def push(given: request.Request, tags: Sequence[str], store: image_store.ImageStore, where: paths.Paths) -> None:
    # HTTP and TLS cost 25 ms that a build that is not pushed shall not pay.
    from devenv.image import push as pushing
    from devenv.image.registry import client

    if not tags:
        raise errors.BuildError("what has no name can't be pushed", hint="devenv image build --push -t NAME …")
    talk = client.Client(given.environ)
    try:
        pusher = pushing.Pusher(where, store, talk)
        for tag in tags:
            pusher.push(reference.parse(tag).familiar, service=given.service)
    finally:
        talk.close()


def _named(text: str) -> str:
    wanted = reference.parse(text)
    if wanted.transport is not reference.Transport.REGISTRY or wanted.digest:
        raise errors.BuildError(f"what is built can't be called `{text}`", hint="write NAME or NAME:TAG")
    return str(wanted)


def _local(folder: str, built: Built, tools: layers.Tools) -> None:
    several = len(built.platforms) > 1
    for platform, state in built.platforms:
        into = f"{folder}/{str(platform).replace('/', '_')}" if several else folder
        os.makedirs(into, exist_ok=True)
        root = os.open(into, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with context.filesystem(layers.shown(tools, state), name="what was built") as tree:
                # They are the files of whoever builds.
                transfer.copy(selection.select(tree, ["/"]), root, "/", chown=f"{os.geteuid()}:{os.getegid()}")
        finally:
            os.close(root)


def _tar(built: Built, tools: layers.Tools, out: BinaryIO) -> None:
    if len(built.platforms) > 1:
        raise errors.BuildError("the files of several platforms can't be in one archive", hint="--output type=local")
    root = layers.shown(tools, built.platforms[0][1])
    try:
        for chunk in pack.Counted(f"/proc/self/fd/{root}", opaque=snapshot.opaque_attribute()).chunks():
            out.write(chunk)
    finally:
        os.close(root)


def _archive(each: request.Output, built: Built, tags: Sequence[str], tools: layers.Tools) -> None:
    target = built.target
    if each.kind == "oci":
        # As BuildKit's; docker's own are not compressed.
        target = compressed.image(tools.where, tools.blobs, target, held=tools.held, what="what was built")
    wanted = [saving.Wanted(target._replace(platform=None), list(tags))]
    if each.fields.get("tar") in {"false", "0"}:
        saving.write_layout(tools.where, wanted, each.path)
        return
    with _written(each.path) as out:
        saving.write_archive(tools.where, wanted, out.write)


@contextlib.contextmanager
def _written(path: str) -> Iterator[BinaryIO]:
    if path in {"", "-"}:
        if sys.stdout.isatty():
            raise errors.BuildError("an archive is nothing for a terminal", hint="--output type=tar,dest=FILE")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    temporary = f"{path}.{os.urandom(4).hex()}"
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
