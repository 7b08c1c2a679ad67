"""Names of other projects, whose containers are in a network with ours (``external``): from their ``names.json``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

from devenv.network import names
from devenv.util import identity

AGE = 0.25  # seconds for which the files are not looked at again


class Foreign:
    def __init__(self, folder: str) -> None:
        self._own = os.path.basename(folder)
        self._projects = os.path.dirname(folder)
        self._looked = 0.0
        self._books: dict[str, tuple[tuple[int, int], names.Book]] = {}

    def books(self) -> Iterator[names.Book]:
        now = time.monotonic()
        if now - self._looked > AGE:
            self._looked = now
            self._look()
        return (book for _, book in self._books.values())

    def _look(self) -> None:
        found: dict[str, tuple[tuple[int, int], names.Book]] = {}
        try:
            projects = sorted(os.listdir(self._projects))
        except OSError:
            projects = []
        for project in projects:
            if project == self._own:
                continue
            path = f"{self._projects}/{project}/names.json"
            try:
                status = os.stat(path)
                version = (status.st_ino, status.st_mtime_ns)
                known = self._books.get(project)
                if known is not None and known[0] == version:
                    found[project] = known
                    continue
                with open(path, "rb") as file:
                    picture = names.Picture.from_json(json.loads(file.read()))
            except (OSError, ValueError, KeyError, TypeError):
                continue
            found[project] = (version, names.Book(picture, _runs))
        self._books = found


def _runs(card: names.Card) -> bool:
    return identity.process_start_time(card.pid) == card.start_time
