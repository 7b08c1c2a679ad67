"""One look at whether a container is ready, of whatever kind its check is: what a prober calls each time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from devenv.health import dial, probe, prober
from devenv.reconcile import live, probing
from devenv.runtime import logs

_ATONCE = 32  # connections; one that isn't answered keeps a thread for as long as it may take


class Looks:
    """For all containers of a loop."""

    def __init__(self, probes: probing.Probes, *, addresses: Callable[[live.Live], Iterable[str]]) -> None:
        """``addresses``: of a container, as others of its networks know it; called in whatever thread."""
        self._probes = probes
        self._addresses = addresses
        self._threads = ThreadPoolExecutor(_ATONCE, thread_name_prefix="look")

    def attempt(self, check: Mapping[str, Any], container: live.Live, *, folder: str) -> prober.Attempt:
        if "dial" in check:
            return self._dialling(dial.Target.from_json(check["dial"]), container)
        if "log" in check:
            return self._reading(re.compile(check["log"]), container, folder)

        argv = list(probe.argv(check["test"]) or ())

        async def run(timeout: float) -> tuple[int | None, bytes]:
            return await self._probes.run(container.id, argv, timeout)

        return run

    def _dialling(self, target: dial.Target, container: live.Live) -> prober.Attempt:
        def work(timeout: float) -> tuple[int, str]:
            pid = container.pid
            if pid is None:
                return 1, "it does not run"
            addresses = () if target.kind == "listen" or target.host else self._addresses(container)
            return dial.attempt(target, pid=pid, addresses=addresses, timeout=timeout)

        async def run(timeout: float) -> tuple[int | None, bytes]:
            code, reason = await asyncio.get_running_loop().run_in_executor(self._threads, work, timeout)
            return code, reason.encode()

        return run

    def _reading(self, pattern: re.Pattern[str], container: live.Live, folder: str) -> prober.Attempt:
        """What was found stays so for as long as the container runs."""
        since, found = container.started, False

        def work() -> bool:
            nonlocal since, found
            if not found:
                for line in logs.read(folder, since=since):
                    since = logs.epoch(line.time)
                    if pattern.search(line.data.decode("utf-8", "replace")):
                        found = True
                        break
            return found

        async def run(_timeout: float) -> tuple[int | None, bytes]:
            if await asyncio.get_running_loop().run_in_executor(self._threads, work):
                return 0, b""
            return 1, f"no line of its log matches `{pattern.pattern}` yet".encode()

        return run
