"""Commands run in a container for the supervisor's own purposes: health checks and hooks, with their output."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from devenv import errors
from devenv.runtime import monitor_client

# What Docker keeps of a probe's output.
OUTPUT_LIMIT = 4096


class Probes:
    """The monitor forks them; this end reads what they print and is told of their end by the monitor's events."""

    def __init__(self, monitor: Callable[[], monitor_client.Monitor], run: Callable[..., Any]) -> None:
        self._monitor = monitor
        self._run = run
        self._waiting: dict[int, asyncio.Future[int | None]] = {}
        # An end may be told before the call that began it has returned.
        self._early: dict[int, int | None] = {}

    def ended(self, event: dict[str, Any]) -> None:
        number, code = int(event["exec"]), event.get("exit_code")
        waiter = self._waiting.pop(number, None)
        if waiter is None:
            self._early[number] = code
        elif not waiter.done():
            waiter.set_result(code)

    def lost(self) -> None:
        """The monitor died: nobody will tell how these end."""
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
        self._early.clear()

    async def run(
        self, container_id: str, argv: list[str], timeout: float, *, options: dict[str, Any] | None = None
    ) -> tuple[int | None, bytes]:
        """Exit code and the first 4096 bytes of output; None for a command that was killed at its timeout.

        A command that can't be started at all ends with 126 or 127 and says why, as a shell's would.
        """
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write, True)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        # What it daemonises stays its descendant, and goes with it at its time limit.
        process = {"args": argv, "adopts": True, **(options or {})}
        monitor = self._monitor()
        try:
            reply = await self._run(monitor.exec, container_id, process, (null, write, write), bound=True)
        except errors.DevenvError as exc:
            os.close(read)
            return getattr(exc, "container_exit_code", 126), exc.message.encode()
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(null)
            os.close(write)
        number = int(reply["exec"])
        waiter: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        if number in self._early:
            waiter.set_result(self._early.pop(number))
        else:
            self._waiting[number] = waiter
        output = _Output(read)
        try:
            return await asyncio.wait_for(waiter, timeout), output.taken()
        except TimeoutError:
            await self._kill(monitor, number)
            return None, output.taken()
        except asyncio.CancelledError:
            await self._kill(monitor, number)
            raise
        finally:
            self._waiting.pop(number, None)
            output.close()

    async def _kill(self, monitor: monitor_client.Monitor, number: int) -> None:
        with contextlib.suppress(errors.DevenvError):
            await self._run(monitor.exec_kill, number)


class _Output:
    """Reads a pipe as it fills, keeps the beginning and throws the rest away, so that no writer ever blocks."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = bytearray()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            return
        self._kept += chunk[: OUTPUT_LIMIT - len(self._kept)]

    def taken(self) -> bytes:
        self._read()
        return bytes(self._kept)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
