"""What ``docker save`` and ``podman save`` write: layers, a config for each image, and a list of them.

manifest.json     [{"Config": "<file>", "RepoTags": ["redis:7"], "Layers": ["<file>", …]}]
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import content, files, reference

ENTRY_LIMIT = 10_000


class Entry(NamedTuple):
    config: str
    layers: tuple[str, ...]  # files of the archive, the lowest first
    tags: tuple[str, ...]  # docker.io/library/redis:7


class DockerArchive:
    def __init__(self, found: files.Files, *, what: str) -> None:
        self._files = found
        self._what = what

    def entries(self) -> list[Entry]:
        data = self._files.read("manifest.json", what=self._what)
        value = content.load_json(data, what=f"{self._what}: manifest.json")
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise errors.ImageError(f"{self._what}: its manifest.json is not a list")
        if len(value) > ENTRY_LIMIT:
            raise errors.ImageError(f"{self._what}: its manifest.json has more than {ENTRY_LIMIT} entries")
        return [self._entry(entry) for entry in value]

    def find(self, *, name: str = "", digest: str = "") -> content.Content:
        if digest:
            raise errors.ImageError(f"{self._what}: a docker archive has no digests to choose by")
        entry = self.choose(name)
        data = self._files.read(entry.config, what=self._what)
        layers = [content.Layer(self._files.source(each), "") for each in entry.layers]
        return content.assemble(data, layers, what=self._what)

    def _entry(self, given: dict[str, Any]) -> Entry:
        config, layers, tags = given.get("Config"), given.get("Layers") or [], given.get("RepoTags") or []
        if not isinstance(config, str) or not isinstance(layers, list) or not isinstance(tags, list):
            raise errors.ImageError(f"{self._what}: its manifest.json is broken")
        for name in (config, *layers):
            if not isinstance(name, str) or not self._files.has(name):
                raise errors.ImageError(f"{self._what}: {str(name)[:200]!r} is not in the archive")
        return Entry(config, tuple(layers), tuple(dict.fromkeys(_names(tags))))

    def choose(self, name: str) -> Entry:
        """The image called so, or the only one. Raises ``ImageError`` otherwise."""
        entries = self.entries()
        if name:
            wanted = str(reference.parse(name))
            found = [entry for entry in entries if wanted in entry.tags]
        else:
            found = entries
        if len(found) != 1:
            offered = sorted({reference.parse(tag).familiar for entry in entries for tag in entry.tags})
            raise errors.ImageError(
                f"{self._what}: " + (f"`{name}` is not in it" if name else f"it holds {len(entries)} images"),
                hint="it has " + ", ".join(f"`{each}`" for each in offered[:20]),
            )
        return found[0]


def _names(tags: list[Any]) -> list[str]:
    found = []
    for tag in tags:
        with contextlib.suppress(errors.ImageError):
            parsed = reference.parse(str(tag))
            if parsed.transport is reference.Transport.REGISTRY and parsed.tag:
                found.append(str(parsed))
    return found
