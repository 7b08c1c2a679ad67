"""The Dockerfiles of a project's services as far as one needs them before a build: which images they name.

What lies elsewhere (git, a web address) is not fetched for that. What a variable of a stage decides is not guessed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from devenv import errors
from devenv.build import request, scope
from devenv.build.dockerfile import froms, instructions, names, parser, words
from devenv.image import reference

NAMES = ("Dockerfile", "Containerfile")


def read(asked: request.Request) -> instructions.Dockerfile | None:
    """None for what is not on this machine. Raises ``BuildError``."""
    if asked.inline is not None:
        return parser.parse(asked.inline, file="Dockerfile")
    where = path(asked)
    if where is None:
        return None
    try:
        with open(where, "rb") as file:
            text = file.read()
    except OSError as exc:
        raise errors.BuildError(
            f"the Dockerfile `{where}` can't be read: {exc.strerror}",
            hint="name another one with `dockerfile:`, or on the command line with `-f`",
        ) from exc
    return parser.parse(text, file=_shown(where))


def path(asked: request.Request) -> str | None:
    """None for one that is not on this machine."""
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
    variables = _variables(dockerfile, asked)
    found: dict[str, None] = {}
    for stage in dockerfile.stages:
        try:
            image = words.expand(stage.start.image, variables, escape=dockerfile.directives.get("escape", "\\"))
        except words.WordError:
            continue  # the build itself says what is wrong with it
        if image and names.base(dockerfile, stage, image) is None:
            found[image] = None
        for name, at in names.sources(stage):
            if _is_image(dockerfile, stage, name, at):
                found[name] = None
    return [name for name in found if not _is_other(name, asked)]


def _is_image(
    dockerfile: instructions.Dockerfile, stage: instructions.Stage, name: str, at: instructions.Instruction
) -> bool:
    try:
        return names.source(dockerfile, stage, name, at) is None
    except errors.BuildError:
        return False


def _is_other(name: str, asked: request.Request) -> bool:
    if name == "scratch" or name in asked.contexts:
        return True
    try:
        return reference.parse(name).transport is not reference.Transport.REGISTRY
    except errors.ImageError:
        return True  # the build itself says what is wrong with it


def _variables(dockerfile: instructions.Dockerfile, asked: request.Request) -> dict[str, str]:
    """What FROM may use: the platform's, and the ARGs above it."""
    target = scope.wanted(asked.platforms[0]) if asked.platforms else scope.own()
    arguments = scope.Arguments(asked, target, asked.target)
    declared = {name for each in dockerfile.arguments for name, _ in each.pairs}
    given = {name: arguments.find(name) for name in declared}
    return froms.values(
        dockerfile, {**arguments.automatic, **{name: one for name, one in given.items() if one is not None}}
    )


def in_full(found: list[str]) -> list[str]:
    return [str(reference.parse(name)) for name in found]


def by_service(requests: Mapping[str, request.Request]) -> dict[str, list[str]]:
    """Service -> the images that its Dockerfile names, in full."""
    found: dict[str, Any] = {}
    for name, asked in requests.items():
        dockerfile = read(asked)
        found[name] = in_full(images(dockerfile, asked)) if dockerfile is not None else []
    return found
