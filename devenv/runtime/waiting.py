"""How a process ended: our own child's by waitid(2), another's by what the kernel still tells about it."""

from __future__ import annotations

import os
import select
from typing import NamedTuple

from devenv.linux import pidfs


class Exit(NamedTuple):
    code: int | None  # 128 + signal when a signal ended it; None when nobody can know any more
    signal: int | None


_DYING_MS = 100
UNKNOWN = Exit(None, None)


def from_status(status: int) -> Exit:
    """From a wait status as waitpid(2) has it."""
    if os.WIFSIGNALED(status):
        return Exit(128 + os.WTERMSIG(status), os.WTERMSIG(status))
    return Exit(os.WEXITSTATUS(status), None)


def peek_child(pidfd: int) -> Exit | None:
    """None while it runs. It stays a zombie, so that a monitor killed now leaves the answer to the next one.

    ``ChildProcessError`` when it is not our child.
    """
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return Exit(found.si_status, None)
    return Exit(128 + found.si_status, found.si_status)


def reap(pidfd: int) -> None:
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        pass


def peek_stranger(pidfd: int, *, pid: int, start_time: int, reaped: bool) -> Exit | None:
    """Someone else's child, which has ended. None when the answer will be there once its parent has reaped it.

    While it is a zombie, its status is the last field of its stat file; that is 0 for who may not see it, which looks
    like success, so the right to see is tried on another file under the same rule: PTRACE_MODE_READ_FSCREDS, proc(5).
    Once it is reaped, the pidfd tells, on Linux 6.15 and later.
    """
    if not reaped:
        fields = stat_fields(pid)
        if fields is not None and int(fields[19]) == start_time and fields[0] in {b"Z", b"X"}:
            try:
                os.readlink(f"/proc/{pid}/ns/user")
            except OSError:
                return None
            return from_status(int(fields[49]))
    try:
        status = pidfs.exit_status(pidfd)
    except OSError:
        return UNKNOWN if reaped else None
    if status is None:
        return UNKNOWN if reaped else None
    return from_status(status)


def ended(pidfd: int, *, within_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within_ms))


def dies(pidfd: int) -> bool:
    """Whether it ends within a moment, as a child does that was to die with its parent, which is dead."""
    return ended(pidfd, within_ms=_DYING_MS)


def stat_fields(pid: int) -> list[bytes] | None:
    """``/proc/PID/stat`` from its third field on; None when there is no such process. A zombie has one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def open_process(pid: int, start_time: int) -> int | None:
    """A pidfd for exactly that process, be it a zombie; None when it is gone or its number is another's now."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    # Asked after the open: a number can't be given anew while the answer is about the process that the pidfd holds.
    fields = stat_fields(pid)
    if fields is None or int(fields[19]) != start_time:
        os.close(pidfd)
        return None
    return pidfd
