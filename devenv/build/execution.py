"""Vertices, done: each as soon as what it needs is there, several at once, from the cache where that has them.

    ready ──▶ key ──▶ cached? ──────────────▶ layer
                        └─▶ perform ─▶ commit ─┘

The first failure ends the rest. So does Ctrl-C; then nothing runs on and nothing half made is left.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import errno
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from devenv import errors
from devenv.build import cache, entering, exchange, graph, layers, progress, run, steps, transfer
from devenv.linux import namespace
from devenv.util import paths

ATTEMPTS = 3  # at files that somebody writes meanwhile


class StepFailed(errors.BuildError):
    """A command in RUN said no, or a file to copy isn't there: the Dockerfile's line is to blame."""

    code_of_command: int = 0
    lines: tuple[str, ...] = ()  # the last of what it wrote
    kept: entering.Kept | None = None  # its filesystem, where that was asked for


@dataclasses.dataclass(slots=True)
class Told:
    """How a vertex went, for the result and for `devenv why`."""

    vertex: graph.Vertex
    key: str = ""
    parts: graph.Parts = dataclasses.field(default_factory=dict)
    cached: bool = False


class Execution:
    """For one build of one or several images."""

    def __init__(
        self,
        where: paths.Paths,
        tools: layers.Tools,
        machine: run.Machine,
        *,
        tell: progress.Tell,
        debug: bool = False,
        offers: Mapping[str, exchange.Offer] | None = None,
    ) -> None:
        self._where = where
        self._tools = tools
        self._machine = machine
        self._tell = tell
        self._debug = debug
        self._stopped = threading.Event()
        self.cache = cache.Cache(tools, offers or {})
        self.states: dict[str, layers.State] = {}  # by a vertex' id
        self.made: dict[str, layers.Layer] = {}  # what each added
        self.told: dict[str, Told] = {}

    def run(self, targets: Sequence[graph.Vertex]) -> None:
        """Afterwards ``states`` has what every vertex came to. Raises the first failure."""
        order = list(ordered(targets))
        waiting = {each.id: {one.id for one in each.inputs if one.work is not None} for each in order}
        for each in order:
            if each.work is None:
                self.states[each.id] = each.source
        pending = [each for each in order if each.work is not None]
        threads = concurrent.futures.ThreadPoolExecutor(
            max(2, os.cpu_count() or 2), thread_name_prefix="step", initializer=_own_mounts
        )
        under_way: dict[concurrent.futures.Future[layers.State], graph.Vertex] = {}
        try:
            while pending or under_way:
                for each in [one for one in pending if not waiting[one.id]]:
                    pending.remove(each)
                    under_way[threads.submit(self._do, each)] = each
                done, _ = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    finished = under_way.pop(future)
                    self.states[finished.id] = future.result()
                    self.made[finished.id] = self.states[finished.id][-1]
                    for others in waiting.values():
                        others.discard(finished.id)
        except BaseException:
            self._stopped.set()
            self._machine.running.close()
            raise
        finally:
            threads.shutdown(wait=True, cancel_futures=True)

    # -- one vertex, in a thread ------------------------------------------------------------------------------------

    def _do(self, vertex: graph.Vertex) -> layers.State:
        if self._stopped.is_set():
            raise errors.BuildError("the build was stopped")
        told = self.told[vertex.id] = Told(vertex)
        inputs = [self.states[each.id] for each in vertex.inputs]
        try:
            layer = self._found_or_made(vertex, inputs, told)
        except (errors.DevenvError, OSError) as exc:
            failure = self._failure(vertex, exc)
            if self._stopped.is_set():
                self._say(vertex, progress.State.CANCELED)
            else:
                self._say(vertex, progress.State.FAILED, text=failure.message)
            raise failure from exc
        return (*inputs[0], layer)

    def _found_or_made(self, vertex: graph.Vertex, inputs: graph.Inputs, told: Told) -> layers.Layer:
        for _ in range(ATTEMPTS - 1):
            try:
                return self._attempt(vertex, inputs, told)
            except transfer.Changed:  # somebody writes to the context: its files are looked at anew
                continue
        return self._attempt(vertex, inputs, told)

    def _attempt(self, vertex: graph.Vertex, inputs: graph.Inputs, told: Told) -> layers.Layer:
        assert vertex.work is not None
        told.parts = vertex.work.parts(self._tools, inputs)
        told.key = cache.key(vertex, inputs, told.parts)
        found = None if vertex.fresh else self.cache.find(told.key)
        if found is not None:
            told.cached = True
            self._say(vertex, progress.State.CACHED)
            return found
        self._say(vertex, progress.State.STARTED)
        layer = self._made(vertex, inputs)
        self.cache.keep(told.key, layer, chain_id=layers.chain_id((*inputs[0], layer)), name=vertex.name)
        self._say(vertex, progress.State.DONE)
        return layer

    def _made(self, vertex: graph.Vertex, inputs: graph.Inputs) -> layers.Layer:
        assert vertex.work is not None
        below: layers.State = () if vertex.alone else inputs[0]
        lower = layers.lower(self._tools, below)
        with steps.folder(self._where) as folder:
            layers.start(folder.path, lower)

            def output(text: str, stderr: bool) -> None:
                self._say(vertex, progress.State.OUTPUT, text=text, stderr=stderr)

            try:
                vertex.work.perform(graph.Room(self._tools, folder, output), inputs, lower)
            except run.Failed as exc:
                failure = _command_failed(vertex, exc)
                if self._debug and not self._stopped.is_set():
                    failure.kept = entering.keep(self._where, folder)
                raise failure from exc
            created = timestamp(vertex.epoch)
            return layers.commit(self._tools, below, folder.path, lower=lower, epoch=vertex.epoch, created=created)

    def _failure(self, vertex: graph.Vertex, exc: errors.DevenvError | OSError) -> StepFailed:
        if isinstance(exc, StepFailed):
            return exc
        if isinstance(exc, errors.DevenvError):
            return _placed(vertex, exc.message, hint=exc.hint, note=exc.note)
        full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = f"df -h {self._where.data}" if full else None
        return _placed(vertex, f"`{vertex.name}`: {exc.filename or 'a file'}: {exc.strerror}", hint=hint)

    def _say(self, vertex: graph.Vertex, state: progress.State, *, text: str = "", stderr: bool = False) -> None:
        self._tell(
            progress.Step(
                id=vertex.id,
                state=state,
                name=vertex.name,
                service=vertex.service,
                text=text,
                stderr=stderr,
                time=time.time(),
            )
        )


def _own_mounts() -> None:
    """An ordinary user may mount in a namespace of their own user namespace alone; this thread gets one."""
    if not namespace.in_initial_user_namespace():
        namespace.unshare(namespace.CLONE_NEWNS)


def ordered(targets: Sequence[graph.Vertex]) -> Iterator[graph.Vertex]:
    """Every vertex that they need, inputs first."""
    seen: set[str] = set()
    pending = [(each, False) for each in reversed(targets)]
    while pending:
        vertex, ready = pending.pop()
        if ready:
            yield vertex
        elif vertex.id not in seen:
            seen.add(vertex.id)
            pending.append((vertex, True))
            pending += [(each, False) for each in reversed(vertex.inputs) if each.id not in seen]


def _command_failed(vertex: graph.Vertex, exc: run.Failed) -> StepFailed:
    failure = _placed(vertex, f"`{vertex.name}` failed with {exc.message}", note="\n".join(exc.lines) or None)
    failure.code_of_command = exc.code_of_command
    failure.lines = exc.lines
    return failure


def _placed(vertex: graph.Vertex, message: str, *, hint: str | None = None, note: str | None = None) -> StepFailed:
    place = vertex.place
    if place is None:
        return StepFailed(message, hint=hint, note=note)
    return StepFailed(
        message, file=place.file, line=place.line, column=place.column, excerpt=place.excerpt, hint=hint, note=note
    )


def timestamp(epoch: int | None) -> str:
    if epoch is not None:
        return datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
