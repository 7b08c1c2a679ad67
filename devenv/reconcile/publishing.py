"""Published ports: which container is behind which host port, told to the proxy as one whole picture each time.

A port is taken before its container is let go, so that one that is held by somebody else is said while nothing has
been started for it, and the container's clients find it open from its first moment on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from devenv import errors
from devenv.network import portproxy_client, ports, types
from devenv.reconcile import live, record
from devenv.util import identity, paths

Run = Callable[..., Awaitable[Any]]


def with_holder(error: errors.PortTaken, where: paths.Paths) -> errors.PortTaken:
    """The same, with service, name and folder of the project that holds the port, where they can be found out."""
    if not error.project_id:
        return error
    for item in portproxy_client.published(where.project_run(error.project_id)):
        made = record.load(where, item.container_id) if item.port == error.port else None
        if made is not None:
            holder = f"`{made.service}` of the devenv project `{made.project}` in `{made.project_dir}`"
            message = f"{error.message.partition(' is taken by ')[0]} is taken by {holder}"
            hint = f"`devenv -p {made.project} stop {made.service}` there, or publish another port"
            return errors.PortTaken(message, hint=hint, port=error.port, project_id=error.project_id)
    return error


class Publishing:
    def __init__(self, project_run: str) -> None:
        self._proxy = portproxy_client.PortProxy(project_run)
        self._wanted: dict[str, list[portproxy_client.Wanted]] = {}  # by container
        self._applying = asyncio.Lock()

    async def publish(self, container: live.Live, pid: int, addresses: tuple[str, ...], run: Run) -> None:
        """Raises ``PortTaken`` or ``NetworkError``, and then none of the container's ports is published."""
        publications = ports.expand(container.record.ports)
        if not publications:
            return
        backend = types.Backend(container.id, pid, identity.process_start_time(pid) or 0, addresses)
        self._wanted[container.id] = [portproxy_client.Wanted(item, backend) for item in publications]
        applied = await self._apply(run)
        refused = [error for wanted, error in applied.refused if wanted.backend.container_id == container.id]
        if refused:
            await self.withdraw(container, run)
            raise refused[0]

    async def withdraw(self, container: live.Live, run: Run) -> None:
        if self._wanted.pop(container.id, None) is not None:
            await self._apply(run)

    async def _apply(self, run: Run) -> portproxy_client.Applied:
        # One at a time, each with the newest picture: the last one to go is never an old one.
        async with self._applying:
            wanted = [item for items in self._wanted.values() for item in items]
            applied: portproxy_client.Applied = await run(self._proxy.apply, wanted)
            return applied

    def shut_down(self) -> None:
        self._proxy.shutdown()
