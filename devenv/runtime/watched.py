"""A container as the monitor has it: its process, its output, and ``state.json``, which is written at each change.

    creating ─▶ created ─▶ running ⇄ paused ─▶ stopped
        └───────────┴─────────────────────────▶ stopped      with ``error`` when it never ran

Whatever happens is first on disk and then told, and the process is reaped last: killed in between, a monitor leaves
to the next one a zombie with its exit code rather than a container of which nobody knows how it ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from devenv.runtime import backend as backends
from devenv.runtime import fifo, logwriter, output, waiting
from devenv.runtime import loop as loops
from devenv.util import fs

# Pipes that are still open when the container has ended are held by a process outside its pid namespace.
_DRAIN_SECONDS = 1.0
# A zombie that its new parent doesn't reap and whose stat file we may not read in full.
_REAP_SECONDS = 5.0


def read_state(folder: str) -> dict[str, Any]:
    state = fs.read_json(f"{folder}/state.json")
    return state if isinstance(state, dict) else {}


class Container:
    def __init__(
        self,
        container_id: str,
        *,
        folder: str,
        run_dir: str,
        loop: loops.Loop,
        backend: backends.Backend,
        emit: Callable[..., None],
    ) -> None:
        self.id = container_id
        self.folder = folder
        self.run_dir = run_dir
        self.state: dict[str, Any] = {}
        self.pidfd = -1
        self.terminal = -1  # the pty's master
        self.stdin_writer = -1
        self.created: Any = None  # what the runtime gave, until it is started
        self.output: output.Output | None = None
        self.failure: tuple[str, int | None] | None = None  # why it never ran, and the exit code that says so
        self.on_stopped: list[Callable[[], None]] = []
        self.making = False  # somebody else is about to create it
        self._held = False
        self._adopted = False
        self._loop = loop
        self._backend = backend
        self._emit = emit

    @property
    def alive(self) -> bool:
        return self.pidfd >= 0

    @property
    def pid(self) -> int:
        return int(self.state.get("pid") or 0)

    def save(self, *, must: bool = False, **changes: Any) -> None:
        """``must``: better no container than one of which nothing can be written down."""
        self.state.update(changes)
        try:
            fs.write_json(f"{self.folder}/state.json", self.state)
        except OSError as exc:
            if must:
                raise
            # A full disk. The monitor still knows, and writes the whole state with the next change.
            backends.note(f"{self.id[:12]}: state.json: {exc}")

    def begin(self, *, boot_id: str, restarts: int) -> None:
        """``restarts``: how often its policy has brought it back since somebody started it; the caller counts."""
        self.save(
            must=True,
            id=self.id,
            status="creating",
            pid=None,
            start_time=0,
            boot_id=boot_id,
            created=time.time(),
            started=None,
            finished=None,
            exit_code=None,
            signal=None,
            oom_killed=False,
            error=None,
            restarts=restarts,
        )

    def created_as(self, created: Any, stdio: fifo.Stdio, limits: logwriter.Limits) -> None:
        self.created = created
        self.terminal = -1 if created.tty_master_fd is None else created.tty_master_fd
        self.stdin_writer = stdio.stdin_writer
        self.save(must=True, status="created", pid=created.pid, start_time=created.start_time)
        self._listen(stdio.outputs, limits)
        self._watch(os.pidfd_open(created.pid), adopted=False)

    def prepare(self) -> None:
        """Before a new run: nothing of the one before may be left open."""
        self.end_output()
        self.failure = None

    def started(self) -> None:
        if self.created is not None:
            self._backend.forget(self.created)
            self.created = None
        # It may have ended already; then what is on disk is newer than this.
        if self.alive:
            self.save(status="running", started=time.time())

    def escrow(self) -> dict[str, int]:
        """What keeps its output and its exit code from being lost while there is no monitor."""
        if not self.alive:
            return {}
        held = {"pidfd": self.pidfd}
        if self.terminal >= 0:
            held["terminal"] = self.terminal
        elif self.output is not None:
            held |= self.output.sources()
        return held

    def end_output(self) -> None:
        if self.output is not None:
            self.output.close()

    def adopt(self, pidfd: int, escrow: dict[str, int], limits: logwriter.Limits) -> None:
        """Another monitor started it. What it has printed since is in its pipes."""
        self.terminal = escrow.pop("terminal", -1)
        sources = fifo.reopen(self.run_dir)
        if not sources and self.terminal < 0:
            # The run folder was removed under us; a pipe that nobody empties would stop the container.
            os.makedirs(self.run_dir, mode=0o700, exist_ok=True)
            sources = fifo.reopen_of(self.pid)
        self._listen(sources, limits)
        if self.state.get("status") in {"creating", "created"}:
            # Had it not been started, it would have died with its monitor.
            self.save(status="running", started=self.state.get("started") or time.time())
        self._watch(pidfd, adopted=True)

    def take_terminal(self, master: int, limits: logwriter.Limits) -> None:
        self.terminal = master
        if self.output is None:
            self._listen({}, limits)

    def bury(self, found: waiting.Exit, *, error: str | None, limits: logwriter.Limits) -> None:
        """It ended while there was no monitor. Its last output may still be in its pipes or in the journal."""
        if os.path.isdir(self.run_dir):
            self._listen(fifo.reopen(self.run_dir), limits)
            self._drain()
        self._finish(found, error)

    def catch_up(self, limits: logwriter.Limits) -> None:
        """It was seen to end, but its monitor was killed before the last of its output was in the log."""
        self._listen(fifo.reopen(self.run_dir), limits)
        self._drain()

    def abandon(self, error: str, exit_code: int | None) -> None:
        """Its creation failed, perhaps when its process was there already."""
        if self.created is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.created.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.created.pid, 0)
        self.end_output()
        self.release()
        self.save(status="stopped", finished=time.time(), exit_code=exit_code, error=error)

    def _listen(self, sources: dict[str, int], limits: logwriter.Limits) -> None:
        terminal = self.terminal >= 0
        if terminal:
            os.set_blocking(self.terminal, False)
            sources = {"stdout": self.terminal}
        writer = logwriter.Writer(f"{self.folder}/logs", f"{self.run_dir}/journal", limits)
        try:
            self.output = output.Output(
                self._loop,
                writer,
                sources,
                terminal=terminal,
                on_end=self._output_ended,
                forwarder=self._forwarder() if limits.forwarded else None,
            )
        except BaseException:
            writer.close()
            raise

    def _forwarder(self) -> output.Forwarder | None:
        from devenv.runtime import logforward  # sockets, which most projects' logs never need

        return logforward.begin(self.folder, self._loop)

    def _output_ended(self) -> None:
        self.output = None

    def _watch(self, pidfd: int, *, adopted: bool) -> None:
        self.pidfd, self._adopted = pidfd, adopted
        self._loop.add(pidfd, loops.READ, self.check)

    def check(self, mask: int) -> None:
        """Its pidfd is readable: it has ended. Called for nothing, it does nothing."""
        if not self.alive or self._held or not waiting.ended(self.pidfd):
            return
        if self._adopted:
            reaped = bool(mask & loops.HANGUP)
            found = waiting.peek_stranger(
                self.pidfd, pid=self.pid, start_time=int(self.state["start_time"]), reaped=reaped
            )
            if found is None:
                # Wait for the hang-up, which comes when it is reaped; readable it stays.
                self._loop.modify(self.pidfd, 0)
                self._loop.later(_REAP_SECONDS, lambda: self.check(loops.HANGUP))
                return
        else:
            try:
                found = waiting.peek_child(self.pidfd)
            except ChildProcessError:
                # Reaped already, by a creation that failed half-way.
                found = waiting.peek_stranger(self.pidfd, pid=0, start_time=0, reaped=True)
            if found is None:
                return
        self._drain()
        self._finish(found, None)

    def hold(self) -> None:
        """That it has ended is not told before ``let_go``: it may do so while it is still being started."""
        self._held = True
        self._loop.modify(self.pidfd, 0)

    def let_go(self) -> None:
        if self._held:
            self._held = False
            self._loop.modify(self.pidfd, loops.READ)
            self.check(loops.READ)

    def _drain(self) -> None:
        if self.output is None:
            return
        self.output.drain()
        if self.output is not None and self.terminal < 0 and not self.output.finished:
            self._loop.later(_DRAIN_SECONDS, self._close_output)
        elif self.output is not None:
            self.output.close()

    def _close_output(self) -> None:
        # Not that of a next run, which may have begun meanwhile.
        if self.output is not None and not self.alive:
            self.output.close()

    def _finish(self, found: waiting.Exit, error: str | None) -> None:
        code = found.code
        if self.failure is not None:
            error, code = self.failure
            self.failure = None
        oom = self._backend.oom_killed(self.folder, self.state)
        self.save(
            status="stopped", finished=time.time(), exit_code=code, signal=found.signal, oom_killed=oom, error=error
        )
        self.release()
        self._backend.destroy(self.folder, self.state)
        if oom:
            self._emit("oom", self.id)
        self._emit("exit", self.id, exit_code=code, signal=found.signal, oom_killed=oom)
        callbacks, self.on_stopped = self.on_stopped, []
        for callback in callbacks:
            callback()

    def release(self) -> None:
        """Reap, and close all that belonged to the run except its output, which may still be draining."""
        if self.pidfd >= 0:
            self._loop.remove(self.pidfd)
            waiting.reap(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1
        if self.created is not None:
            self._backend.forget(self.created)
            self.created = None
        for descriptor in (self.terminal, self.stdin_writer):
            if descriptor >= 0:
                os.close(descriptor)
        self.terminal = self.stdin_writer = -1
