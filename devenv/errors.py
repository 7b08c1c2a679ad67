"""Every error a user may meet, as one tree.

    DevenvError
     +- UsageError       exit 2   the command line asks for something that makes no sense
     +- PlacedError               in a file, at a line
     |   +- SpecError    exit 2   the YAML spec is wrong
     |   +- BuildError   exit 5   a Dockerfile or one of its steps failed
     +- HostError        exit 3   the machine or its kernel lacks something
     +- ImageError       exit 4   an image can't be found, read or unpacked
     +- ContainerError   exit 1   a container can't be made, started or entered
     +- NetworkError     exit 1   a network, an address or a port can't be had
     |   +- PortTaken    exit 1   someone else listens on a port that is to be published
     +- VolumeError      exit 1   a volume can't be made, filled or removed
     +- SyncError        exit 1   files can't be carried into a container
     +- SupervisorError  exit 1   the project's supervisor can't be reached or started

A mechanism translates an ``OSError`` once, ``raise … from exc``; only ``devenv.cli`` prints or exits.
Messages have no full stop, put names and paths in backticks, and leave what to do to ``hint``.
"""

from __future__ import annotations

from typing import ClassVar


class DevenvError(Exception):
    """Something the user can understand and act upon."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, note: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.note = note

    def __str__(self) -> str:
        return self.message


class UsageError(DevenvError):
    code = "usage"
    exit_code = 2


class PlacedError(DevenvError):
    """In a file: ``line`` and ``column`` count from 1, ``excerpt`` is the offending line as written."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        excerpt: str | None = None,
        hint: str | None = None,
        note: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, note=note)
        self.file = file
        self.line = line
        self.column = column
        self.excerpt = excerpt


class SpecError(PlacedError):
    code = "spec"
    exit_code = 2


class HostError(DevenvError):
    code = "host"
    exit_code = 3


class ImageError(DevenvError):
    code = "image"
    exit_code = 4


class BuildError(PlacedError):
    """Placed where a line of a Dockerfile is to blame."""

    code = "build"
    exit_code = 5


class ContainerError(DevenvError):
    code = "container"


class NetworkError(DevenvError):
    code = "network"


class PortTaken(NetworkError):
    code = "port-taken"

    def __init__(self, message: str, *, hint: str | None = None, port: int = 0, project_id: str = "") -> None:
        super().__init__(message, hint=hint)
        self.port = port
        self.project_id = project_id  # of the devenv project that holds it, if one does


class VolumeError(DevenvError):
    code = "volume"


class SyncError(DevenvError):
    code = "sync"


class SupervisorError(DevenvError):
    code = "supervisor"
