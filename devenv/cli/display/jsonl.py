"""One JSON object an event, with docker compose's field names."""

from __future__ import annotations

import json
from typing import Any, TextIO

from devenv import events

_STATUS = {
    events.Status.WORKING: "Working",
    events.Status.DONE: "Done",
    events.Status.WARNING: "Warning",
    events.Status.ERROR: "Error",
}


class JsonLines:
    def __init__(self, stream: TextIO, *, dry_run: bool = False) -> None:
        self._stream = stream
        self._dry_run = dry_run

    def start(self, title: str) -> None:
        pass

    def show(self, event: events.Event) -> None:
        line: dict[str, Any] = {"id": event.resource, "status": _STATUS[event.status], "text": event.text}
        if event.details:
            line["details"] = event.details
        if event.service:
            line["service"] = event.service
        if event.reasons:
            line["reasons"] = list(event.reasons)
        if event.total:
            line |= {"current": event.current, "total": event.total, "percent": event.current * 100 // event.total}
        if self._dry_run:
            line["dry-run"] = True
        # ASCII only: a control character in a name can't reach a terminal.
        print(json.dumps(line), file=self._stream, flush=True)

    def finish(self) -> None:
        pass
