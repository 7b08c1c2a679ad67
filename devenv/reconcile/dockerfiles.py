"""The Dockerfiles of a project's services as far as one needs them before a build: which images they name.

What lies elsewhere (git, a web address) is not fetched for that. What a variable of a stage decides is not guessed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from devenv import errors
from devenv.build import request
from devenv.build.dockerfile import instructions, parser, words
from devenv.image import reference

NAMES = ("Dockerfile", "Containerfile")


def read(asked: request.Request) -> instructions.Dockerfile | None:
    """None for what is not on this machine. Raises ``BuildError``."""
    if asked.inline is not None:
        return parser.parse(asked.inline, file="Dockerfile")
    path = _path(asked)
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as exc:
        raise errors.BuildError(
            f"the Dockerfile `{path}` can't be read: {exc.strerror}",
            hint="name another one with `dockerfile:`, or on the command line with `-f`",
        ) from exc
    return parser.parse(text, file=_shown(path))


def _path(asked: request.Request) -> str | None:
    if "://" in asked.dockerfile:
        return None
    if asked.dockerfile.startswith("/"):
        return asked.dockerfile
    if not asked.context.startswith("/"):
        return None
    if asked.dockerfile:
        return f"{asked.context}/{asked.dockerfile}"
    there = (f"{asked.context}/{name}" for name in NAMES if os.path.exists(f"{asked.context}/{name}"))
    return next(there, f"{asked.context}/{NAMES[0]}")


def _shown(path: str) -> str:
    """As one would type it from here."""
    try:
        near = os.path.relpath(path)
    except OSError:
        return path
    return path if near.startswith("..") else near


def images(dockerfile: instructions.Dockerfile, asked: request.Request) -> list[str]:
    """What FROM, COPY and RUN name of a registry, as written, each once. Stages and named contexts are none."""
    environment = _arguments(dockerfile, asked.arguments, asked.environ)
    found: dict[str, None] = {}
    stages: set[str] = set()
    for stage in dockerfile.stages:
        for name in _named(stage, environment):
            if name and name.lower() not in stages and not name.isdecimal() and not _is_other(name, asked):
                found[name] = None
        stages |= {stage.name} if stage.name else set()
    return list(found)


def _is_other(name: str, asked: request.Request) -> bool:
    if name == "scratch" or name in asked.contexts:
        return True
    try:
        return reference.parse(name).transport is not reference.Transport.REGISTRY
    except errors.ImageError:
        return True  # the build itself says what is wrong with it


def _named(stage: instructions.Stage, environment: Mapping[str, str]) -> Iterator[str]:
    try:
        yield words.expand(stage.start.image, environment)
    except words.WordError:
        return
    for each in stage.instructions:
        if isinstance(each, instructions.Copy) and "$" not in each.source:
            yield each.source
        if isinstance(each, instructions.Run):
            yield from (
                value for mount in each.mounts for key, value in mount.fields if key == "from" and "$" not in value
            )


def _arguments(
    dockerfile: instructions.Dockerfile, given: Mapping[str, str | None], environ: Mapping[str, str]
) -> dict[str, str]:
    """What FROM may use: the ARGs above it."""
    found: dict[str, str] = {}
    for each in dockerfile.arguments:
        for name, default in each.pairs:
            value = given.get(name)
            if name in given and value is None:
                value = environ.get(name)
            if value is None and default is not None:
                value = words.expand(default, found)
            if value is not None:
                found[name] = value
    return found


def in_full(names: list[str]) -> list[str]:
    return [str(reference.parse(name)) for name in names]


def by_service(requests: Mapping[str, request.Request]) -> dict[str, list[str]]:
    """Service -> the images that its Dockerfile names, in full."""
    found: dict[str, Any] = {}
    for name, asked in requests.items():
        dockerfile = read(asked)
        found[name] = in_full(images(dockerfile, asked)) if dockerfile is not None else []
    return found
