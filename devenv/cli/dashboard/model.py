"""The project as it is at one moment: a row for each container, and for each service that has none.

Everything is read from disk and from the kernel, so it is right whoever changed it, and with no supervisor at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from devenv import errors
from devenv.cli import context, formats, inventory, options, waits
from devenv.reconcile import reasons
from devenv.runtime import usage


class Row(NamedTuple):
    key: str  # the container's id, or the service's name
    name: str  # web-1
    service: str
    number: int  # 0 where there is no container
    state: str  # docker's word, or "absent"
    status: str
    cpu: str
    memory: str
    ports: str
    why: str

    @property
    def runs(self) -> bool:
        return self.state in inventory.ACTIVE


class Picture(NamedTuple):
    rows: tuple[Row, ...]
    problem: str  # of the spec as it is now; "" if it can be read

    @property
    def summary(self) -> str:
        running = sum(row.state == "running" for row in self.rows)
        return f"{running} of {len(self.rows)} running" if self.rows else "no services"

    def of_service(self, service: str) -> list[Row]:
        return [row for row in self.rows if row.service == service]


class Looker:
    """Looks again and again, on one thread at a time."""

    def __init__(self, given: options.Globals, project: context.Found) -> None:
        self._project = project
        self._services = _Services(given, project.services or ())
        self._before: dict[str, usage.Usage] = {}

    def look(self) -> Picture:
        now = time.time()
        project = self._project
        containers = [item for item in inventory.load(project.where, project.identity.id) if not item.record.oneoff]
        why = waits.of(project, containers)
        used = _used(containers)
        rows = []
        for item in containers:
            key = item.record.id
            ports = (port._asdict() for port in inventory.publishers(project.where, item) if port.PublishedPort)
            rows.append(
                Row(
                    key=key,
                    name=item.label,
                    service=item.record.service,
                    number=item.record.number,
                    state=item.state,
                    status=item.status(now),
                    cpu=_share(self._before.get(key), used.get(key)),
                    memory=formats.binary_size(used[key].memory) if key in used else "",
                    ports=formats.ports(ports),
                    why="; ".join(reason.phrase(now) for reason in _with(why, key)),
                )
            )
        self._before = used
        names, problem = self._services.read()
        there = {row.service for row in rows}
        rows += [
            Row(name, name, name, 0, "absent", "not created", "", "", "", "") for name in names if name not in there
        ]
        return Picture(tuple(sorted(rows, key=lambda row: (row.service, row.number))), problem)


def _with(why: dict[str, list[reasons.Reason]], key: str) -> Iterable[reasons.Reason]:
    return why.get(key, ())


def _used(containers: Iterable[inventory.Container]) -> dict[str, usage.Usage]:
    found = {}
    for item in containers:
        if item.pid is not None and item.state in {"running", "paused"}:
            seen = usage.read(item.pid, item.record.id, network=False)
            if seen is not None:
                found[item.record.id] = seen
    return found


def _share(before: usage.Usage | None, now: usage.Usage | None) -> str:
    if before is None or now is None or now.taken <= before.taken:
        return ""
    return f"{max(now.cpu - before.cpu, 0.0) / (now.taken - before.taken) * 100:.1f}%"


class _Services:
    """The names in the spec, which is edited meanwhile: read again when one of its files has changed."""

    def __init__(self, given: options.Globals, names: Iterable[str]) -> None:
        self._given = given
        self._names = tuple(names)
        self._problem = ""
        self._files: tuple[str, ...] = ()
        self._seen: object = None

    def read(self) -> tuple[tuple[str, ...], str]:
        seen = [_stamp(path) for path in self._files]
        if self._seen is None or seen != self._seen:
            self._read()
            self._seen = [_stamp(path) for path in self._files]
        return self._names, self._problem

    def _read(self) -> None:
        from devenv.spec import diagnostic, loader

        try:
            read = loader.read_model(context.load_options(self._given), diagnostic.Report())
        except errors.SpecError as exc:
            place = ":".join(str(part) for part in (exc.file, exc.line, exc.column) if part is not None)
            self._problem = f"{place}: {exc.message}" if place else exc.message
            broken = exc.file or ""
            if broken and broken not in self._files:
                self._files = (*self._files, broken)
            return
        self._problem = ""
        self._files = (*read.files, *read.sources)
        self._names = tuple(read.spec.get("services") or ())


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
