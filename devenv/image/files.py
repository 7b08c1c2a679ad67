"""The files an image comes in, by name: a folder, or a tar archive that is read in place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from devenv import errors
from devenv.image import content, descriptor, source


class Files(Protocol):
    where: str  # for people

    def has(self, name: str) -> bool: ...

    def size(self, name: str) -> int: ...

    def read(self, name: str, *, what: str) -> bytes:
        """A small file, whole. Raises ``ImageError``."""

    def source(self, name: str) -> source.Source: ...


class Folder:
    def __init__(self, where: str) -> None:
        self.where = where

    def has(self, name: str) -> bool:
        return os.path.isfile(f"{self.where}/{name}")

    def size(self, name: str) -> int:
        return os.stat(f"{self.where}/{name}").st_size

    def read(self, name: str, *, what: str) -> bytes:
        return content.read_file(f"{self.where}/{name}", what=what)

    def source(self, name: str) -> source.Source:
        return source.File(f"{self.where}/{name}")


class Place(NamedTuple):
    offset: int
    size: int


class Archive:
    """``path`` is a tar archive, not compressed, that has these files in these places."""

    def __init__(self, where: str, path: str, places: Mapping[str, Place]) -> None:
        self.where = where
        self._path = path
        self._places = places

    def has(self, name: str) -> bool:
        return name in self._places

    def size(self, name: str) -> int:
        return self._places[name].size

    def read(self, name: str, *, what: str) -> bytes:
        if name not in self._places:
            raise errors.ImageError(f"{what}: `{name}` is not in `{self.where}`")
        place = self._places[name]
        if place.size > descriptor.JSON_LIMIT:
            raise errors.ImageError(f"{what}: `{name}` in `{self.where}` is larger than {descriptor.JSON_LIMIT} bytes")
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(file, place.size, place.offset)
        finally:
            os.close(file)

    def source(self, name: str) -> source.Source:
        place = self._places.get(name)
        if place is None:
            raise errors.ImageError(f"`{name}` is not in `{self.where}`")
        return source.Slice(self._path, place.offset, place.size)
