"""Which registries are served from here, and whether they still are.

    <data>/registries/<key>.json     one for each folder that was taken into service and not out of it

A record outlives a crash of its registry and of the machine: ``serve -d`` goes on with what it says.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
from typing import Any, NamedTuple

from devenv import errors
from devenv.image import snapshot
from devenv.image.registry import serving
from devenv.util import fs, identity, paths

PATIENCE = 30.0  # for uploads that are under way


class Record(NamedTuple):
    registry: str  # HOST:PORT, as others call it
    served: serving.Served
    user: str  # of ``--user``
    self_signed: bool
    pid: int = 0
    start_time: int = 0
    boot: str = ""

    @property
    def runs(self) -> bool:
        return self.boot == snapshot.boot_id() and identity.process_start_time(self.pid) == self.start_time

    def same(self, other: Record) -> bool:
        """What they serve, and how."""
        return self[:4] == other[:4]


def keep(where: paths.Paths, record: Record, pid: int) -> None:
    start_time = identity.process_start_time(pid)
    if start_time is None:
        raise errors.HostError("the registry ended at once", hint=f"see `{record.served.folder}/log`")
    os.makedirs(f"{where.data}/registries", mode=0o700, exist_ok=True)
    living = record._replace(pid=pid, start_time=start_time, boot=snapshot.boot_id())
    fs.write_json(_path(where, record.served.folder), {**living._asdict(), "served": living.served._asdict()})


def forget(where: paths.Paths, folder: str) -> None:
    fs.remove(_path(where, folder))


def find(where: paths.Paths, folder: str) -> Record | None:
    return _parse(fs.read_json(_path(where, folder)))


def every(where: paths.Paths) -> list[Record]:
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(f"{where.data}/registries"):
            record = _parse(fs.read_json(f"{where.data}/registries/{name}"))
            found += [record] if record is not None else []
    return sorted(found, key=lambda record: (record.registry, record.served.folder))


def stop(where: paths.Paths, record: Record) -> None:
    """Ends it, if it runs, and forgets it; its images stay. Raises ``HostError`` if it doesn't end."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(record.pid) if record.pid else -1
        if descriptor >= 0:
            try:
                # Only now is it certain whose pid that is.
                if record.runs:
                    _end(descriptor, record)
            finally:
                os.close(descriptor)
    forget(where, record.served.folder)


def _end(process: int, record: Record) -> None:
    signal.pidfd_send_signal(process, signal.SIGTERM)
    ended = select.poll()
    ended.register(process, select.POLLIN)
    if not ended.poll(PATIENCE * 1000):
        raise errors.HostError(
            f"registry `{record.registry}` does not end", hint=f"`kill -9 {record.pid}` breaks off its uploads"
        )


def _path(where: paths.Paths, folder: str) -> str:
    return f"{where.data}/registries/{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.json"


def _parse(given: Any) -> Record | None:
    try:
        return Record(**{**given, "served": serving.Served(**given["served"])})
    except (TypeError, KeyError):
        return None
