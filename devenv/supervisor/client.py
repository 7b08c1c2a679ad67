"""How a command talks to a project's supervisor. Standard library only: this is on the fast path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from devenv import errors
from devenv.supervisor import launch, protocol
from devenv.util import identity, paths, sockets


class _Gone(Exception):
    """The connection ended before the answer had."""


class Supervisor:
    """A project's supervisor; each call is a connection of its own, so calls may overlap."""

    def __init__(self, project: identity.Project, where: paths.Paths) -> None:
        self._project = project
        self._where = where
        self._path = f"{where.project_run(project.id)}/supervisor.sock"

    @classmethod
    def find(cls, project: identity.Project, where: paths.Paths) -> Supervisor | None:
        """The running supervisor, or None. Starts nothing."""
        supervisor = cls(project, where)
        try:
            sockets.connect(supervisor._path).close()
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        return supervisor

    @classmethod
    def ensure(cls, project: identity.Project, where: paths.Paths) -> Supervisor:
        """The running supervisor, started if need be. Raises ``SupervisorError`` or ``HostError``."""
        supervisor = cls(project, where)
        launch.ensure(project, where)
        return supervisor

    def call(self, op: str, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Every message of the answer, the ``{"result": …}`` last.

        Raises ``RemoteError`` for what the supervisor refused and ``SupervisorError`` when it died meanwhile.
        Closing the iterator cancels the request.
        """
        for last in (False, False, True):
            begun = False
            try:
                for message in self._call(op, params):
                    begun = True
                    yield message
                return
            except (_Gone, ConnectionError, FileNotFoundError) as exc:
                if begun or last:
                    raise errors.SupervisorError(
                        "the project's supervisor went away before it had finished",
                        hint="run the command again: it goes on where this one stopped",
                    ) from exc
                # It left between our look and our call, and had begun nothing.
                launch.ensure(self._project, self._where)

    def _call(self, op: str, params: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
        connection = sockets.connect(self._path)
        with connection, connection.makefile("rb", buffering=65536) as lines:
            connection.sendall(protocol.encode({"op": op, "params": params or {}}))
            for line in lines:
                message = json.loads(line)
                if "error" in message:
                    raise protocol.RemoteError(message["error"])
                yield message
                if "result" in message:
                    return
        raise _Gone

    def request(self, op: str, params: dict[str, Any] | None = None) -> Any:
        """The result alone."""
        result: Any = None
        for message in self.call(op, params):
            result = message.get("result", result)
        return result
