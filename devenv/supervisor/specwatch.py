"""The files of a spec while a project's files are watched: an edit is planned, shown and carried out.

    a change ─▶ (calm) ─▶ is the content another one? ─▶ `devenv plan` ─▶ its plan, or what is wrong and where
                                                            └▶ `devenv up -d`, when there is something to do

The commands are devenv's own, run as whoever began the watching would: a broken spec changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable

from devenv.reconcile import loop as loop_module
from devenv.reconcile import notes

# Editors and `git checkout` write several files one after the other.
_CALM = 0.2

# Arguments of devenv -> exit code and what it printed.
Run = Callable[[list[str]], Awaitable[tuple[int, list[str]]]]


class SpecWatch:
    """``services``: those that an `up` was limited to; none where it was about all of them."""

    def __init__(
        self,
        loop: loop_module.Loop,
        files: Iterable[str],
        services: Iterable[str],
        *,
        run: Run,
        say: Callable[[notes.Note], None],
    ) -> None:
        self.files = tuple(dict.fromkeys(files))
        self._loop = loop
        self._services = list(services)
        self._run = run
        self._say = say
        self._wake = asyncio.Event()

    async def begin(self) -> None:
        from devenv.sync import watcher

        events = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                events.call_soon_threadsafe(self._wake.set)

        self._watcher = watcher.Watcher(
            [os.path.realpath(path) for path in self.files],
            skip=lambda _path, _is_folder: False,
            notify=wake,
            warn=lambda text, hint: self._say(notes.Note(text=text, level="warning", hint=hint)),
        )
        self._content = await self._loop.run(self._read)
        await self._loop.run(self._watcher.start)
        self._task = asyncio.ensure_future(self._follow())

    async def end(self) -> None:
        """Does not wait for an `up` that is under way: that may be what ends this."""
        self._task.cancel()
        await self._loop.run(self._watcher.close)

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(_CALM)
            self._watcher.take()
            content = await self._loop.run(self._read)
            if content != self._content:
                self._content = content
                # Not from here: the `up` may begin another watch in the place of this one.
                self._loop.keep(self._apply())

    def _read(self) -> str:
        found = hashlib.sha256()
        for path in self.files:
            try:
                with open(path, "rb") as file:
                    found.update(hashlib.sha256(file.read()).digest())
            except OSError:
                found.update(b"-")
        return found.hexdigest()

    async def _apply(self) -> None:
        code, lines = await self._run(["plan", *self._services])
        if code != 0:
            said = "\n".join(["the spec has changed, and what runs stays as it is:", *lines])
            self._say(notes.Note(text=said, level="error"))
            return
        self._say(notes.Note(text="\n".join(["the spec has changed:", *lines])))
        code, lines = await self._run(["up", "--detach", *self._services])
        if code != 0:
            self._say(notes.Note(text="\n".join(lines[-10:]), level="error"))
