"""What has happened to a project's containers and why, for those who ask later: ``why`` and ``timings``.

    <data>/projects/<id>/journal.jsonl      one JSON object a line, the newest last
    <data>/projects/<id>/journal.jsonl.1    what came before; together they stay below 2 MiB

Two kinds of entries: ``event`` (what became of a container) and ``operation`` (one step of a plan, once it is over,
with its cause, and what it came after). It outlives supervisors and containers, and ends with a `down` of the whole
project. Writing never fails: a full disk must not keep anything from running.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from devenv.util import fs, identity, paths

_LIMIT = 1 << 20  # bytes of one file

Entry = dict[str, Any]


class Journal:
    """The one who writes it: a project's supervisor."""

    def __init__(self, where: paths.Paths, project: identity.Project) -> None:
        self._path = _path(where, project)

    def add(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"kind": kind, **{name: value for name, value in fields.items() if value not in (None, "")}})
        with contextlib.suppress(OSError):
            try:
                file = self._open()
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
                file = self._open()
            try:
                # One write, so that whoever reads sees whole lines.
                os.write(file, line.encode() + b"\n")
                full = os.fstat(file).st_size > _LIMIT
            finally:
                os.close(file)
            if full:
                os.rename(self._path, f"{self._path}.1")

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def read(where: paths.Paths, project: identity.Project) -> Iterator[Entry]:
    """The oldest first. Lines that a crash left half written are passed over."""
    for path in (f"{_path(where, project)}.1", _path(where, project)):
        try:
            with open(path, "rb") as file:
                for line in file:
                    with contextlib.suppress(ValueError):
                        entry = json.loads(line)
                        if isinstance(entry, dict):
                            yield entry
        except OSError:
            continue


def forget(where: paths.Paths, project: identity.Project) -> None:
    for suffix in ("", ".1"):
        fs.remove(f"{_path(where, project)}{suffix}")


def _path(where: paths.Paths, project: identity.Project) -> str:
    return f"{where.project_data(project.id)}/journal.jsonl"
