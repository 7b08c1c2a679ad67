"""A build as it would be, for who asks what a file is to it: nothing is executed and nothing pulled."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.build import bases, convert, flow, ignore, network, request, run, running, scope, solver, sources
from devenv.build.dockerfile import parser, rules
from devenv.image import store as image_store
from devenv.util import paths


class Outline(NamedTuple):
    pieces: tuple[flow.Piece, ...]
    config: Mapping[str, Any]  # of the image
    files: tuple[str, ...]  # that say how it is built: the Dockerfile, if it is one, and its ignore file


class _Present(bases.Bases):
    def _pull(self, wanted: Any, machine: str) -> None:
        raise errors.ImageError(f"the image `{wanted.familiar}` is not here", hint="devenv build")


def is_here(given: request.Request) -> bool:
    """Whether the context is a folder of this machine, and the Dockerfile is no web address."""
    return os.path.isdir(given.context) and "://" not in given.dockerfile


def read(given: request.Request, *, where: paths.Paths, store: image_store.ImageStore) -> Outline:
    """Raises ``BuildError``, ``ImageError``."""
    with contextlib.ExitStack() as held:
        source = sources.Sources(where, given, held)
        text, source.dockerfile = solver.dockerfile(given, source)
        dockerfile = parser.parse(text, file=source.dockerfile or "Dockerfile")
        rules.refuse(dockerfile, dockerfile.warnings)
        converted = convert.Converter(
            given,
            dockerfile,
            target=scope.wanted(given.platforms[0]) if given.platforms else scope.own(),
            found=_Present(where, store, given, tell=lambda _: None),
            source=source,
            machine=run.Machine(running.Running(where), network.Network(where)),
        ).convert()
        pieces = flow.pieces(converted.draft.vertex)
        ignored = ignore.path(given.context, source.dockerfile)
        files = tuple(os.path.realpath(each) for each in (source.dockerfile, ignored) if each)
        return Outline(tuple(pieces), converted.draft.config, files)
