"""What goes over ``supervisor.sock``: one JSON object a line, in both directions.

A request is ``{"op": …, "params": {…}}``; the answers are any number of ``{"event": …}`` or
``{"container": …}``, and at the end ``{"result": …}`` or ``{"error": {…}}``. One request a connection: closing it
cancels what is still under way, as a Ctrl-C does.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

from devenv import __version__, errors

# Raised whenever a message changes its meaning; a command that meets another one replaces the supervisor.
VERSION = f"{__version__}/1"
LIMIT = 16 * 1024 * 1024  # a project of a thousand services is about 2 MB


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def same_user(connection: socket.socket) -> bool:
    """Only the owner gets as far as the socket's folder; SO_PEERCRED (unix(7)) makes sure."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder) in {os.geteuid(), 0}


def error_to_json(error: BaseException, *, op: str = "") -> dict[str, Any]:
    """With a one-off container, a command that can't be run has the code that a shell would give it, 126 or 127."""
    of_command = getattr(error, "container_exit_code", None) if op.startswith("run") else None
    if isinstance(error, errors.DevenvError):
        return {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "note": error.note,
            "exit_code": of_command or error.exit_code,
        }
    return {"code": "internal", "message": f"{type(error).__name__}: {error}", "exit_code": 70}


class RemoteError(errors.DevenvError):
    """An error that another process met, with that error's own code and exit code."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data["message"], hint=data.get("hint"), note=data.get("note"))
        self.code = data.get("code", "error")  # type: ignore[misc]
        self.exit_code = data.get("exit_code", 1)  # type: ignore[misc]
