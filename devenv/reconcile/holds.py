"""What each service waits for at this moment, as `ps`, `why` and whoever else reads it find it without a supervisor.

    <run>/projects/<id>/waits.json    {"web": [{"kind": "dependency", …}]}

The file is the supervisor's; it is gone when nothing waits. A supervisor that is killed leaves it to its successor,
which begins with none.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping

from devenv import events
from devenv.reconcile import reasons
from devenv.util import fs, identity, paths

_NAME = "waits.json"


class Holds:
    def __init__(self, where: paths.Paths, project: identity.Project) -> None:
        self._path = f"{where.project_run(project.id)}/{_NAME}"
        self._held: dict[str, dict[str, reasons.Reason]] = {}
        fs.remove(self._path)

    def hold(self, service: str, key: str, reason: reasons.Reason) -> bool:
        """``key`` tells apart several things that one service waits for. False where that is known already."""
        mine = self._held.setdefault(service, {})
        if mine.get(key) == reason:
            return False
        mine[key] = reason
        self._write()
        return True

    def release(self, service: str, key: str) -> None:
        mine = self._held.get(service, {})
        if mine.pop(key, None) is not None:
            if not mine:
                del self._held[service]
            self._write()

    def of(self, service: str) -> list[reasons.Reason]:
        return list(self._held.get(service, {}).values())

    def _write(self) -> None:
        # It only tells: a full disk must not keep anything from running.
        with contextlib.suppress(OSError):
            if self._held:
                told = {name: [each.to_json() for each in mine.values()] for name, mine in self._held.items()}
                fs.write_json(self._path, told)
            else:
                fs.remove(self._path)


class Pulls:
    """Passes on what is told of images on their way, and holds the services that want them meanwhile."""

    def __init__(self, holds: Holds, wanted: Iterable[tuple[str, str]], emit: Callable[[events.Event], None]) -> None:
        """``wanted``: services, each with its image as people call it."""
        self._holds = holds
        self._wanted = list(wanted)
        self._emit = emit

    def __call__(self, event: events.Event) -> None:
        kind, _, image = event.resource.partition(" ")
        for service, reference in self._wanted if kind == "Image" else ():
            if reference != image or event.status is events.Status.WARNING:
                continue
            if event.status is events.Status.WORKING:
                percent = event.current * 100 // event.total if event.total else None
                self._holds.hold(service, "image", reasons.Image(image=image, percent=percent))
            else:
                self._holds.release(service, "image")
        self._emit(event)

    def finish(self) -> None:
        for service, _ in self._wanted:
            self._holds.release(service, "image")


def read(where: paths.Paths, project_id: str) -> Mapping[str, list[reasons.Reason]]:
    """By service; nothing where no supervisor is there to keep it true."""
    folder = where.project_run(project_id)
    if not os.path.exists(f"{folder}/supervisor.sock"):
        return {}
    found = fs.read_json(f"{folder}/{_NAME}")
    try:
        return {name: [reasons.from_json(each) for each in mine] for name, mine in (found or {}).items()}
    except (KeyError, TypeError, AttributeError):
        return {}
