"""Events about one image on its way from or to a registry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from devenv import events

_PERIOD = 0.1  # seconds between two reports

Emit = Callable[[events.Event], None]


class Teller:
    """Safe for threads."""

    def __init__(self, text: str, service: str, emit: Emit, *, word: str) -> None:
        """``word`` is what is done with the image, for as long as it is."""
        self._resource = f"Image {text}"
        self._service = service
        self._emit = emit
        self._word = word
        self._lock = threading.Lock()
        self._last = 0.0

    def status(self, status: events.Status, text: str, details: str = "", *, current: int = 0, total: int = 0) -> None:
        self._emit(
            events.Event(
                resource=self._resource,
                status=status,
                text=text,
                details=details,
                service=self._service,
                time=time.time(),
                current=current,
                total=total,
            )
        )

    def warn(self, text: str) -> None:
        self._emit(
            events.Event(
                resource=f"{self._resource} ", status=events.Status.WARNING, text="Note", details=text, time=time.time()
            )
        )

    def progress(self, measure: Callable[[], tuple[int, int]]) -> None:
        """What ``measure`` finds, bytes done and in all; not asked when the last report was a moment ago."""
        with self._lock:
            now = time.monotonic()
            if now - self._last < _PERIOD:
                return
            self._last = now
            current, total = measure()
            self.status(events.Status.WORKING, self._word, current=current, total=total)
