"""``devenv.lock``: what the moving names of a project mean, so that every machine starts from the same images.

    version = 1

    [images."docker.io/library/redis:7"]
    digest = "sha256:…"

    [images."docker.io/library/redis:7".platforms]
    "linux/amd64" = "sha256:…"
    "linux/arm64" = "sha256:…"

``digest`` is what the registry says the name means, most often an index; ``platforms`` are the images in it. Written
sorted and one thing a line, so that a change reads like one and two changes merge. Nothing here looks at images.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.util import fs

NAME = "devenv.lock"
VERSION = 1

_HEADER = "# What the images of this project are. `devenv upgrade` moves them; keep this file in version control.\n"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_PLATFORM = re.compile(r"[a-z0-9]+(/[a-z0-9_.-]+){1,2}", re.ASCII)
_PLACE = re.compile(r"at line (\d+), column (\d+)")
_HINT = "take it from version control, or remove it and run `devenv lock`"

Images = Mapping[str, "Locked"]  # by the whole reference: docker.io/library/redis:7


class Locked(NamedTuple):
    digest: str
    platforms: Mapping[str, str]  # linux/amd64 -> digest


def path(directory: str) -> str:
    return f"{directory}/{NAME}"


def load(directory: str) -> dict[str, Locked]:
    """Nothing for a project without a lock. Raises ``SpecError`` with the place."""
    file = path(directory)
    try:
        with open(file, "rb") as opened:
            text = opened.read().decode()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.SpecError(f"`{file}` can't be read: {exc}", file=file, hint=_HINT) from exc
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise _syntax(file, text, exc) from exc
    return _Reader(file, text).images(given)


def _syntax(file: str, text: str, exc: tomllib.TOMLDecodeError) -> errors.SpecError:
    found = _PLACE.search(str(exc))
    lines = text.splitlines() or [""]
    line = min(int(found[1]), len(lines)) if found else len(lines)
    message = _PLACE.sub("", str(exc)).removesuffix(" ()").strip()
    hint = _HINT
    if lines[line - 1].startswith(("<<<<<<<", "=======", ">>>>>>>")):
        message, hint = "a merge left its marks", "take the lines of either side, then run `devenv lock`"
    return _wrong(file, lines, line, message, hint=hint)


def _wrong(file: str, lines: list[str], line: int, message: str, *, hint: str = _HINT) -> errors.SpecError:
    return errors.SpecError(f"`{NAME}`: {message}", file=file, line=line, excerpt=lines[line - 1], hint=hint)


class _Reader:
    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._lines = text.splitlines() or [""]

    def images(self, given: dict[str, Any]) -> dict[str, Locked]:
        version = given.get("version")
        if version != VERSION:
            raise self._wrong("version", f"its version is `{version}`, which this devenv does not know")
        images = given.get("images", {})
        if not isinstance(images, dict):
            raise self._wrong("images", "`images` is not a table")
        return {name: self._image(name, value) for name, value in images.items()}

    def _image(self, name: str, given: Any) -> Locked:
        if not isinstance(given, dict):
            raise self._wrong(name, f"`{name}` is not a table")
        digest, platforms = given.get("digest"), given.get("platforms", {})
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise self._wrong(str(digest) if digest else name, f"the digest of `{name}` is no sha256 digest")
        if not isinstance(platforms, dict):
            raise self._wrong(name, f"`platforms` of `{name}` is not a table")
        for platform, value in platforms.items():
            if not _PLATFORM.fullmatch(platform) or not isinstance(value, str) or not _DIGEST.fullmatch(value):
                raise self._wrong(platform, f"`{platform}` of `{name}` is no platform with a sha256 digest")
        return Locked(digest, platforms)

    def _wrong(self, word: str, message: str) -> errors.SpecError:
        numbered = list(enumerate(self._lines, 1))
        found = [number for text in (f'"{word}"', word) for number, line in numbered if text in line]
        line = found[0] if found else 1
        return _wrong(self._file, self._lines, line, message)


def text_of(images: Images) -> str:
    parts = [_HEADER, f"version = {VERSION}\n"]
    for name, locked in sorted(images.items()):
        key = json.dumps(name)
        parts.append(f'\n[images.{key}]\ndigest = "{locked.digest}"\n')
        if locked.platforms:
            parts.append(f"\n[images.{key}.platforms]\n")
            parts += [f'"{platform}" = "{digest}"\n' for platform, digest in sorted(locked.platforms.items())]
    return "".join(parts)


def save(directory: str, images: Images) -> bool:
    """Whether anything changed. An empty lock is no file. Raises ``OSError``."""
    file = os.path.realpath(path(directory))
    new = text_of(images) if images else ""
    try:
        with open(file, encoding="utf-8") as opened:
            old = opened.read()
    except FileNotFoundError:
        old = ""
    if new == old:
        return False
    if not new:
        os.unlink(file)
        return True
    fs.write_whole(file, new.encode())
    # Whatever our umask is, it is a file of the project's like any other; also when root has written it.
    os.chmod(file, 0o644)
    with contextlib.suppress(OSError):
        owner = os.stat(os.path.dirname(file))
        os.chown(file, owner.st_uid, owner.st_gid)
    return True
