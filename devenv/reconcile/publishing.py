"""Published ports: which container is behind which host port, told to the proxy as one whole picture each time.

A port is taken before its container is let go, so that one that is held by somebody else is said while nothing has
been started for it, and the container's clients find it open from its first moment on. A proxy that dies is noticed
by the end of a connection that is held for nothing else, and the next one is told the same picture. The same process
is the project's name server: it is told who is called what, in the same way.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from devenv import errors
from devenv.network import names, portproxy_client, ports, types
from devenv.reconcile import live, record
from devenv.util import identity, paths

Run = Callable[..., Awaitable[Any]]
Keep = Callable[[Awaitable[Any]], None]
Forward = Callable[[list[types.Published]], None]

# One that dies soon after its start would die again: it is not started as fast as the machine can.
_STEADY_SECONDS = 10.0
_AGAIN_SECONDS = 5.0


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
    """``run`` takes a blocking call to a thread, ``keep`` a task of which nobody waits for the end.

    ``picture`` looks at who is called what just now; ``forward`` has the kernel carry ports that want it.
    """

    def __init__(
        self, project_run: str, *, run: Run, keep: Keep, picture: Callable[[], names.Picture], forward: Forward
    ) -> None:
        self._proxy = portproxy_client.PortProxy(project_run)
        self._run = run
        self._keep = keep
        self._wanted: dict[str, list[portproxy_client.Wanted]] = {}  # by container
        self._applying = asyncio.Lock()
        self._picture = picture
        self._forward = forward
        self._naming = asyncio.Lock()
        self._asked = self._told = 0
        self._guard: socket.socket | None = None
        self._watching = False
        self._since = 0.0
        self._died_soon = False

    def prepare(self) -> None:
        """There will be something to tell: have the process start meanwhile."""
        if self._guard is None:
            self._keep(self._run(self._proxy.start))

    async def publish(self, container: live.Live, pid: int, addresses: tuple[str, ...]) -> None:
        """Raises ``PortTaken`` or ``NetworkError``, and then none of the container's ports is published."""
        publications = ports.expand(container.record.ports)
        if not publications:
            return
        backend = types.Backend(container.id, pid, identity.process_start_time(pid) or 0, addresses)
        self._wanted[container.id] = [portproxy_client.Wanted(item, backend) for item in publications]
        applied = await self._apply()
        refused = [error for wanted, error in applied.refused if wanted.backend.container_id == container.id]
        if refused:
            await self.withdraw(container)
            raise refused[0]

    async def withdraw(self, container: live.Live) -> None:
        if self._wanted.pop(container.id, None) is not None:
            await self._apply()

    async def _apply(self) -> portproxy_client.Applied:
        # One at a time, each with the newest picture: the last one to go is never an old one.
        async with self._applying:
            wanted = [item for items in self._wanted.values() for item in items]
            applied: portproxy_client.Applied = await self._run(self._proxy.apply, wanted)
            await self._run(self._forward, [item for item in applied.published if item.publication.kernel])
        if wanted:
            await self._watch()
        return applied

    async def tell_names(self) -> dict[str, OSError]:
        """Have the name server know what holds now. Returns the containers in which it can't listen, and why.

        Who comes while it is being told shares the next telling with all others that do.
        """
        self._asked += 1
        mine = self._asked
        async with self._naming:
            if self._told >= mine:
                return {}
            told = self._asked
            picture = self._picture()
            failed: dict[str, OSError] = await self._run(self._proxy.tell_names, picture)
            self._told = told
        if picture.cards:
            await self._watch()
        return failed

    async def _watch(self) -> None:
        if self._guard is not None or self._watching:
            return
        self._watching = True
        try:
            await self._hold()
        finally:
            self._watching = False

    async def _hold(self) -> None:
        self._since = time.monotonic()
        try:
            self._guard = await self._run(self._proxy.guard)
        except OSError:
            self._died()
            return
        asyncio.get_running_loop().add_reader(self._guard.fileno(), self._died)

    def _died(self) -> None:
        self._let_go()
        if self._wanted or self._picture().cards:
            again = self._died_soon
            self._died_soon = time.monotonic() - self._since < _STEADY_SECONDS
            self._keep(self._again(_AGAIN_SECONDS if again and self._died_soon else 0.0))

    async def _again(self, delay: float) -> None:
        await asyncio.sleep(delay)
        if self._wanted:
            await self._apply()
        await self.tell_names()

    def _let_go(self) -> None:
        if self._guard is not None:
            asyncio.get_running_loop().remove_reader(self._guard.fileno())
            self._guard.close()
            self._guard = None

    async def shut_down(self) -> None:
        self._let_go()
        await self._run(self._proxy.shutdown)
