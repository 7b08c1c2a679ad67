"""One supervisor a project: answers commands on ``supervisor.sock`` and keeps the loop running.

It holds nothing that is not also on disk, so it may be killed at any moment: its parent forks it again, it looks
at the machine and goes on. It ends by itself, with exit code 0, when the project has nothing left to supervise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from devenv import errors
from devenv.reconcile import loop as loop_module
from devenv.runtime import cgroup
from devenv.supervisor import engine, operations, protocol
from devenv.util import folders, identity, lock, paths, sockets

Send = Callable[[dict[str, Any]], None]

# How long a supervisor without anything to supervise stays for the next command.
_IDLE = 20.0
_RESPAWN_DELAY = 1.0


def main(project: identity.Project, where: paths.Paths, *, ready: int | None, zygote: int) -> NoReturn:
    held = lock.acquire(f"{where.project_run(project.id)}/supervisor.lock", wait=False)
    if held is None:
        # Another supervisor lives, so this one is not needed, and neither is the parent that forked it.
        if ready is not None:
            engine.tell(ready, {"ok": True})
        os._exit(0)
    server = Server(project, where, zygote=zygote)
    try:
        code = asyncio.run(server.run(ready))
    except BaseException as exc:  # noqa: BLE001
        import traceback

        traceback.print_exc()
        if ready is not None:
            engine.tell(ready, {"error": protocol.error_to_json(exc)})
        code = 1
    sys.stderr.flush()
    # Threads may still wait for a mechanism; nothing they hold is lost.
    os._exit(code)


class Server:
    def __init__(self, project: identity.Project, where: paths.Paths, *, zygote: int) -> None:
        self._project = project
        self._where = where
        self._zygote = zygote
        self._folder = where.project_run(project.id)
        cgroup.keep(f"{self._folder}/cgroups.json")
        self._subscribers: set[Send] = set()
        respawn = engine.argv(project, where)
        self._loop = loop_module.Loop(project, where, publish=self._publish, respawn=respawn)
        self._operations = operations.Operations(self._loop)
        self._requests: set[asyncio.Task[None]] = set()
        self._watchers: set[asyncio.Task[None]] = set()  # those of them that last until their callers go
        self._idle: asyncio.TimerHandle | None = None
        self._looked = False  # before it has looked at what is there, nothing seems to be
        self._expected = False  # whether the command that started it has yet to ask for something

    async def run(self, ready: int | None) -> int:
        self._finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._started = asyncio.get_running_loop().time()
        listener = sockets.listen(f"{self._folder}/supervisor.sock")
        server = await asyncio.start_unix_server(self._on_connect, sock=listener, limit=protocol.LIMIT)
        self._announce()
        events = asyncio.get_running_loop()
        events.add_signal_handler(signal.SIGTERM, self._finish, 0)
        events.add_reader(self._zygote, self._zygote_died)
        if ready is not None:
            self._expected = True
            engine.tell(ready, {"ok": True})
        await self._loop.start()
        self._looked = True
        recovery = self._operations.open()
        if recovery is not None:
            self._loop.keep(recovery)
            self._requests.add(recovery)
            recovery.add_done_callback(self._recovered)
        self._consider_leaving()
        code = await self._finished
        # Whoever connects from now on is let down at once and asks for the next one; who is served, is served.
        server.close()
        for watcher in self._watchers:
            watcher.cancel()
        if self._requests:
            await asyncio.wait(self._requests)
        await self._loop.close()
        if code == 0:
            self._retract()
        return code

    def _recovered(self, recovery: asyncio.Task[None]) -> None:
        self._requests.discard(recovery)
        self._consider_leaving()

    # -- being found --------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Let the thin client find this project by its folder, without reading any YAML."""
        os.makedirs(f"{self._where.run}/folders", mode=0o700, exist_ok=True)
        link = folders.link(self._where.run, self._project.directory)
        target = f"../projects/{self._project.id}"
        try:
            os.symlink(target, link)
        except FileExistsError:
            with contextlib.suppress(OSError):
                os.unlink(link)
                os.symlink(target, link)
        except OSError as exc:
            # A folder whose name is too long for a link is served the slow way.
            print(f"can't announce the folder: {exc}", file=sys.stderr)

    def _retract(self) -> None:
        link = folders.link(self._where.run, self._project.directory)
        with contextlib.suppress(OSError):
            if os.readlink(link) == f"../projects/{self._project.id}":
                os.unlink(link)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._folder}/supervisor.sock")

    # -- ending -------------------------------------------------------------------------------------------------

    def _finish(self, code: int) -> None:
        if not self._finished.done():
            self._finished.set_result(code)

    def _zygote_died(self) -> None:
        """Become the zygote oneself as soon as no command is under way: a new one forks a supervisor at once."""
        events = asyncio.get_running_loop()
        events.remove_reader(self._zygote)

        def accept() -> None:
            self._zygote_gone = True
            self._consider_leaving()

        # One that dies as it starts must not make us start it as fast as the machine can.
        quick = events.time() - self._started < _IDLE
        events.call_later(_RESPAWN_DELAY if quick else 0.0, accept)

    _zygote_gone = False

    def _consider_leaving(self) -> None:
        """Called whenever something has ended: a request, a container, the zygote."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        # Who watches comes back to whoever takes our place.
        staying = self._watchers if self._zygote_gone else set()
        if not self._looked or self._requests - staying - {asyncio.current_task()}:
            return
        if self._zygote_gone:
            argv = engine.argv(self._project, self._where)
            # The lock and the sockets close by themselves; containers and the monitor are other processes.
            os.execv(argv[0], argv)
        if self._loop.has_nothing_to_supervise():
            delay = 0.0 if self._loop.is_empty() and not self._expected else _IDLE
            self._idle = asyncio.get_running_loop().call_later(delay, self._leave)

    def _leave(self) -> None:
        if not self._requests and self._loop.has_nothing_to_supervise():
            self._finish(0)

    # -- requests -----------------------------------------------------------------------------------------------

    def _publish(self, message: dict[str, Any]) -> None:
        for send in list(self._subscribers):
            send(message)
        if "container" in message:
            self._consider_leaving()

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not protocol.same_user(writer.get_extra_info("socket")) or self._finished.done():
            writer.close()
            return
        self._requests.add(task)
        try:
            line = await reader.readline()
            if line:
                await self._answer(json.loads(line), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            self._requests.discard(task)
            with contextlib.suppress(ConnectionError):
                writer.close()
            self._consider_leaving()

    async def _answer(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        def send(message: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(protocol.encode(message))

        op, params = request.get("op", ""), request.get("params", {})
        if op == "hello":
            send({"result": {"version": protocol.VERSION, "pid": os.getpid()}})
            await writer.drain()
            if params.get("version") != protocol.VERSION:
                self._finish(0)
                await asyncio.sleep(0)
            return
        self._expected = False
        if op == "subscribe":
            await self._subscribe(send, reader)
            return
        work = asyncio.ensure_future(self._operations.perform(op, params, send))
        task = asyncio.current_task()
        if op == "watch" and task is not None:
            self._watchers.add(task)
            task.add_done_callback(self._watchers.discard)
        await _until_done_or_hung_up(work, reader)
        try:
            send({"result": work.result()})
        except asyncio.CancelledError:
            send({"error": protocol.error_to_json(errors.SupervisorError(f"`{op}` was interrupted"))})
        except errors.DevenvError as exc:
            send({"error": protocol.error_to_json(exc, op=op)})
        except Exception as exc:  # noqa: BLE001  a fault of ours must not take the supervisor down
            import traceback

            traceback.print_exc()
            send({"error": protocol.error_to_json(exc)})
        await writer.drain()

    async def _subscribe(self, send: Send, reader: asyncio.StreamReader) -> None:
        self._subscribers.add(send)
        task = asyncio.current_task()
        assert task is not None
        # A watcher keeps nobody here.
        self._requests.discard(task)
        try:
            send({"result": {}} if self._finished.done() else {"subscribed": True})
            await reader.read()
        finally:
            self._subscribers.discard(send)


async def _until_done_or_hung_up(work: asyncio.Future[Any], reader: asyncio.StreamReader) -> None:
    """Cancel ``work`` when its client goes away; wait for its end in either case."""
    hung_up = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({work, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
        await asyncio.wait({work})
    finally:
        hung_up.cancel()
