"""Where errors and warnings go: standard error, and the file of `--log`, as text or as one JSON object a line."""

from __future__ import annotations

import os
import sys
import time

_LEVELS = ("debug", "info", "warning", "error")


class Log:
    def __init__(self, path: str = "", *, form: str = "text", debug: bool = False) -> None:
        self._form = form
        self._lowest = 0 if debug else 1
        self._file = -1
        if path:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o644)

    def error(self, message: str) -> None:
        self._write("error", message)

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def debug(self, message: str) -> None:
        self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        if _LEVELS.index(level) < self._lowest:
            return
        if level != "debug" or self._file < 0:
            sys.stderr.write(f"devenv-oci: {message}\n" if level == "error" else f"devenv-oci: {level}: {message}\n")
            sys.stderr.flush()
        if self._file >= 0:
            os.write(self._file, self._line(level, message).encode("utf-8", "surrogateescape"))

    def _line(self, level: str, message: str) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._form == "json":
            import json

            return json.dumps({"level": level, "msg": message, "time": when}) + "\n"
        quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'time="{when}" level={level} msg="{quoted}"\n'
