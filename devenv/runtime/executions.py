"""Processes started inside running containers: health probes, ``exec -d``, one's shell. They have no state on disk."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable
from typing import Any

from devenv import errors
from devenv.runtime import backend as backends
from devenv.runtime import loop as loops
from devenv.runtime import waiting, watched

_KILL_ROUNDS = 8


class Execution:
    __slots__ = ("container", "number", "owner", "pid", "pidfd", "seq", "session")

    def __init__(
        self, number: int, container: watched.Container, done: backends.Executed, seq: Any, owner: Any
    ) -> None:
        self.number = number
        self.container = container
        self.pid = done.pid
        self.pidfd = done.pidfd
        self.seq = seq
        self.owner = owner
        # The process need not lead its session: joining a pid namespace takes a fork after setsid(2).
        fields = waiting.stat_fields(done.pid)
        session = int(fields[3]) if fields is not None else done.pid
        # Never our own, which a process that is only just on its way may still be in: it is to be killed as a whole.
        self.session = done.pid if session == os.getsid(0) else session


class Executions:
    def __init__(self, loop: loops.Loop, backend: backends.Backend, emit: Callable[..., None]) -> None:
        self._loop = loop
        self._backend = backend
        self._emit = emit
        self._count = 0
        self._running: dict[int, Execution] = {}

    def running(self) -> list[int]:
        return list(self._running)

    def begin(
        self,
        container: watched.Container,
        process: dict[str, Any],
        *,
        stdio: tuple[int, int, int],
        tty: bool,
        seq: Any,
        owner: object | None,
    ) -> dict[str, Any]:
        """``owner`` is the client with whose connection the process is to end, if it is."""
        done = self._backend.execute(container.folder, container.state, process, stdio=stdio, tty=tty)
        self._count += 1
        try:
            execution = Execution(self._count, container, done, seq, owner)
            self._loop.add(done.pidfd, loops.READ, lambda mask: self._check(execution, mask))
        except BaseException:
            # One that nobody can watch is not let run.
            _signal(done.pidfd, signal.SIGKILL)
            for descriptor in (done.pidfd, done.terminal):
                if descriptor is not None:
                    os.close(descriptor)
            raise
        self._running[execution.number] = execution
        reply: dict[str, Any] = {"pid": done.pid, "exec": execution.number}
        if done.terminal is not None:
            reply["fds"] = (done.terminal,)
            self._loop.later(0, lambda: os.close(done.terminal or -1))  # once the reply has duplicated it
        return reply

    def kill(self, number: int, sign: int) -> None:
        execution = self._running.get(number)
        if execution is None:
            raise errors.ContainerError(f"there is no exec {number}")
        self._kill_tree(execution, sign)

    def abandon(self, owner: object) -> None:
        for execution in list(self._running.values()):
            if execution.owner is owner:
                self._kill_tree(execution, signal.SIGKILL)

    def check_pid(self, pid: int) -> bool:
        """Whether this pid is one of ours; it has ended."""
        execution = next((one for one in self._running.values() if one.pid == pid), None)
        if execution is not None:
            self._check(execution, loops.READ)
        return execution is not None

    def _check(self, execution: Execution, mask: int) -> None:
        if execution.number not in self._running:
            return
        try:
            found = waiting.peek_child(execution.pidfd)
        except ChildProcessError:
            # Another one's child: only the kernel's record can tell, once it has been reaped.
            found = waiting.peek_stranger(execution.pidfd, pid=0, start_time=0, reaped=bool(mask & loops.HANGUP))
            if found is None:
                self._loop.modify(execution.pidfd, 0)
                return
        if found is None:
            return
        del self._running[execution.number]
        self._loop.remove(execution.pidfd)
        waiting.reap(execution.pidfd)
        os.close(execution.pidfd)
        self._emit(
            "exec_exit",
            execution.container.id,
            exec=execution.number,
            seq=execution.seq,
            exit_code=found.code,
            signal=found.signal,
        )

    def _kill_tree(self, execution: Execution, sign: int) -> None:
        """The process and all that descend from it or share its session, until none is left or it goes in circles."""
        for _ in range(_KILL_ROUNDS):
            victims = self._tree(execution)
            for pid, start_time in victims:
                pidfd = waiting.open_process(pid, start_time)
                if pidfd is not None:
                    _signal(pidfd, sign)
                    os.close(pidfd)
            if sign != signal.SIGKILL or not victims:
                break
        _signal(execution.pidfd, sign)

    def _tree(self, execution: Execution) -> list[tuple[int, int]]:
        members: dict[int, tuple[int, int, int]] = {}
        for pid in self._backend.pids(execution.container.folder, execution.container.state):
            fields = waiting.stat_fields(pid)
            if fields is not None and fields[0] not in {b"Z", b"X"}:
                members[pid] = (int(fields[1]), int(fields[3]), int(fields[19]))  # parent, session, start time
        found = {execution.pid}
        while True:
            more = {
                pid
                for pid, (parent, session, _) in members.items()
                if pid not in found and (parent in found or session == execution.session)
            }
            if not more:
                return [(pid, members[pid][2]) for pid in found if pid in members]
            found |= more


def _signal(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def set_window_size(terminal: int, *, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
