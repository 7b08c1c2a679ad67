"""Who watches a project's files: the session, those who look on, and what a change asks of the other operations.

A session begins with `up --watch`, before anything is started, or with `watch`. It ends with the last command that
looks on, unless it is to go on in the background (`up -d --watch`); that is in `desired.json`, so that the next
supervisor goes on with it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from devenv import errors
from devenv.reconcile import desired, hooks, notes
from devenv.reconcile import loop as loop_module
from devenv.supervisor import specwatch

if TYPE_CHECKING:
    from devenv.reconcile import syncing
    from devenv.reconcile import watching as session_module
    from devenv.sync import rules

Send = Callable[[dict[str, Any]], None]
Perform = Callable[[str, Mapping[str, Any], Send], Awaitable[Any]]

# How long an `up --watch` may take from its end to looking on.
_GRACE = 10.0
# A command of `sync+exec` may build things.
_EXEC_SECONDS = 600.0


class Watching:
    def __init__(self, engine: loop_module.Loop, perform: Perform) -> None:
        self._loop = engine
        self._perform = perform
        self._sends: set[Send] = set()
        self._background = False
        self._changing = asyncio.Lock()
        self._prune = True  # remove the image that a rebuild replaces
        self._environ: Mapping[str, str] = {}  # of the command that asked for the watching: logins, proxies
        self._leaving: asyncio.TimerHandle | None = None
        self._missed: list[notes.Note] = []  # what was said before anybody looked on
        self._spec: specwatch.SpecWatch | None = None

    async def begin(
        self,
        environment: desired.Environment,
        services: Sequence[str],
        *,
        background: bool,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Watch from now on, with the rules of ``environment``. Raises ``UsageError`` for rules that make no sense."""
        async with self._changing:
            session = self._loop.session
            self._background, self._environ = self._background or background, environ
            if session is None or not _covers(session, environment, services):
                await self._replace(environment, services)
            self._consider_ending()

    async def renew(self, environment: desired.Environment) -> None:
        """An `up` without `--watch` while somebody watches: their rules may have changed."""
        session = self._loop.session
        if session is None:
            return
        if _rules_of(session.environment) == _rules_of(environment):
            if self._spec is not None and self._spec.files != environment.sources:
                await self._follow_spec(environment, session.services)
            return
        async with self._changing:
            await self._replace(environment, [name for name in session.services if name in environment.services])

    async def resume(self, environment: desired.Environment) -> None:
        """What a supervisor before this one did in the background."""
        try:
            await self.begin(environment, environment.watch or (), background=True)
        except errors.DevenvError as exc:
            self._log(notes.Note(text=f"watching: {exc.message}", level="error"))

    async def attend(self, params: Mapping[str, Any], send: Send) -> None:
        """Look on until the caller goes, beginning a session where there is none."""
        environment = desired.from_json({**params, "directory": params["project"].get("working_dir")})
        services = list(params.get("services") or environment.services)
        self._sends.add(send)
        self._prune = bool(params.get("prune", True))
        try:
            missed, self._missed = self._missed, []
            for note in missed:
                send(note.to_json())
            session = self._loop.session
            if session is None or set(services) - set(session.services):
                self._environ = params.get("environ") or {}
                async with self._changing:
                    await self._replace(environment, services)
            await asyncio.get_running_loop().create_future()
        finally:
            self._sends.discard(send)
            self._consider_ending()

    async def stop(self) -> bool:
        """Not in the background any more; whoever looks on goes on. Whether there was a background to stop."""
        was, self._background = self._background, False
        if not self._sends:
            await self.end()
        return was

    async def end(self) -> None:
        async with self._changing:
            self._background = False
            await self._end()

    # -- inside --------------------------------------------------------------------------------------------------

    async def _replace(self, environment: desired.Environment, services: Sequence[str]) -> None:
        # 20 ms to import, for which nobody waits who watches nothing.
        from devenv.reconcile import watching as session_module

        found = await self._rules(environment, services)
        made = session_module.Session(self._loop, environment, services, found, say=self._say, act=self._act)
        await self._end()
        self._loop.session = made
        try:
            await made.begin()
        except BaseException:
            self._loop.session = None
            raise
        await self._follow_spec(environment, services)

    async def _follow_spec(self, environment: desired.Environment, services: Sequence[str]) -> None:
        if self._spec is not None:
            await self._spec.end()
            self._spec = None
        if environment.sources and environment.rerun:
            limited = sorted(services) if set(services) != set(environment.services) else []
            made = specwatch.SpecWatch(self._loop, environment.sources, limited, run=self._devenv, say=self._say)
            await made.begin()
            self._spec = made

    async def _devenv(self, arguments: list[str]) -> tuple[int, list[str]]:
        """Run another devenv about this project: its exit code, and what it said."""
        lines: list[str] = []
        process = await self._start(arguments)
        assert process.stdout is not None
        async for raw in process.stdout:
            lines.append(raw.decode(errors="replace").rstrip())
        return await process.wait(), lines

    async def _rules(self, environment: desired.Environment, services: Sequence[str]) -> syncing.Found:
        from devenv.reconcile import derived, syncing

        machine = derived.Machine(self._loop.where, self._loop.containers.images, self._environ or os.environ)
        found: syncing.Found = await self._loop.run(syncing.make_rules, environment, services, machine)
        return found

    async def _follow_dockerfiles(self) -> None:
        """One that was edited may copy other files, or to other places."""
        async with self._changing:
            session = self._loop.session
            if session is None:
                return
            found = await self._rules(session.environment, session.services)
            if found.fingerprint != session.found.fingerprint:
                await self._replace(session.environment, session.services)

    async def _end(self) -> None:
        session, self._loop.session = self._loop.session, None
        if self._spec is not None:
            await self._spec.end()
            self._spec = None
        if session is not None:
            await session.end()

    def _consider_ending(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if self._background or self._sends or self._loop.session is None:
            return
        self._leaving = asyncio.get_running_loop().call_later(_GRACE, lambda: self._loop.keep(self._end_if_alone()))

    async def _end_if_alone(self) -> None:
        async with self._changing:
            if not self._background and not self._sends:
                await self._end()

    def _say(self, note: notes.Note) -> None:
        if note.level not in {"batch", "build"}:
            self._log(note)
        if not self._sends:
            self._missed = [*self._missed[-99:], note]
        for send in list(self._sends):
            send(note.to_json())

    def _log(self, note: notes.Note) -> None:
        sys.stderr.write(f"watch: {note.text}\n")

    # -- what a change asks for ----------------------------------------------------------------------------------

    async def _act(self, service: str, action: rules.Action, hook: Mapping[str, Any]) -> None:
        if action == "sync+exec":
            await self._execute(service, hook)
        elif action == "restart":
            await self._perform("restart", {"services": [service]}, self._pass_on)
            self._say(notes.Note(text=f"{service}: restarted", service=service))
        else:
            before = {item.record.image_id for item in self._loop.of_service(service)}
            await self._rebuild(service)
            if self._prune:
                from devenv.reconcile import superseded

                images = self._loop.containers.images
                await self._loop.run(superseded.remove, self._loop.where, images, before)
            self._say(notes.Note(text=f"{service}: rebuilt", service=service))
            session = self._loop.session
            if session is not None and service in session.found.derived:
                # Not from here: a session that ends takes what it does with it.
                self._loop.keep(self._follow_dockerfiles())

    async def _rebuild(self, service: str) -> None:
        """As `up --build` does for that service, by that very command: builds need a process of their own."""
        process = await self._start(["up", "--detach", "--build", "--no-deps", service])
        assert process.stdout is not None
        last: list[str] = []
        try:
            async for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                last = [*last[-9:], line]
                self._say(notes.Note(text=f"{service}: {line}", service=service, level="build"))
            code = await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            raise
        if code != 0:
            raise errors.BuildError(f"`up --build` of it ended with {code}", note="\n".join(last))

    async def _start(self, arguments: list[str]) -> asyncio.subprocess.Process:
        """Another devenv, as whoever asked for the watching would call it."""
        session = self._loop.session
        folder, *options = session.environment.rerun if session is not None else ()
        program = [sys.executable, "-P", "-c", "from devenv import entry; entry.main()"]
        environ = {**os.environ, **self._environ}
        environ |= {"DEVENV_DATA_HOME": self._loop.where.data, "DEVENV_RUNTIME_DIR": self._loop.where.run}
        return await asyncio.create_subprocess_exec(
            *program,
            *options,
            "--progress",
            "plain",
            "--ansi",
            "never",
            *arguments,
            cwd=folder,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def _execute(self, service: str, hook: Mapping[str, Any]) -> None:
        containers = [item for item in self._loop.of_service(service) if item.runs]
        argv = list(hook["command"])
        ends = await asyncio.gather(
            *(self._loop.probes.run(item.id, argv, _EXEC_SECONDS, options=hooks.options(hook)) for item in containers)
        )
        for container, (code, output) in zip(containers, ends, strict=True):
            text = output.decode(errors="replace").rstrip()
            level = "info" if code == 0 else "error"
            end = "" if code == 0 else f" ended with {'a timeout' if code is None else code}"
            said = f"{container.record.name}: `{' '.join(argv)}`{end}" + (f"\n{text}" if text else "")
            if text or end:
                self._say(notes.Note(text=said, service=service, level=level))

    def _pass_on(self, message: dict[str, Any]) -> None:
        for send in list(self._sends):
            send(message)


def _covers(session: session_module.Session, environment: desired.Environment, services: Sequence[str]) -> bool:
    return set(services) <= set(session.services) and _rules_of(session.environment) == _rules_of(environment)


def _rules_of(environment: desired.Environment) -> dict[str, Any]:
    kept = ("develop", "volumes", "build", "command", "entrypoint")
    return {
        name: [service.get(key) for key in kept]
        for name, service in environment.services.items()
        if service.get("develop") or service.get("build")
    }
