"""A build as one JSON object a thing told, with the fields of ``progress.Step``."""

from __future__ import annotations

import json
import threading
from typing import TextIO

from devenv.build import progress


class JsonLines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def tell(self, step: progress.Step) -> None:
        given = {key: value for key, value in step.to_json().items() if value not in ("", 0, False)}
        with self._lock:
            # ASCII only: a control character in an output can't reach a terminal.
            print(json.dumps(given), file=self._stream, flush=True)

    def finish(self) -> None:
        pass
