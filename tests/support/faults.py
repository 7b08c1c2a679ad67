"""Faults in running processes: one system call that fails, or that its caller does not survive, by strace.

    with faults.inject(pid, faults.Fault("rename", 1, "ENOSPC")): ...

strace counts per process, so the third `write` is the third of the traced process, and the third of each of its
children. ``count`` tells how many there are to choose from.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.polling import eventually

KILL = "SIGKILL"

# What creating, starting, entering, ending and removing a container does to the machine; and the error that is
# likeliest there.
SYSCALLS = {
    "mount": "ENOMEM",
    "umount2": "EBUSY",
    "move_mount": "EINVAL",
    "open_tree": "ENFILE",
    "mount_setattr": "EINVAL",
    "pivot_root": "EBUSY",
    "unshare": "ENOSPC",
    "setns": "EPERM",
    "clone": "EAGAIN",
    "execve": "ENOMEM",
    "rename": "ENOSPC",
    "write": "ENOSPC",
    "pwrite64": "ENOSPC",
    "splice": "ENOMEM",
    "ftruncate": "EIO",
    "unlink": "EROFS",
    "rmdir": "EBUSY",
    "mkdir": "ENOSPC",
    "mknod": "ENOSPC",
    "openat": "EMFILE",
    "openat2": "EMFILE",
    "socketpair": "EMFILE",
    "sendmsg": "EPIPE",
    "recvmsg": "ENOMEM",
    "pidfd_open": "EMFILE",
    "pidfd_send_signal": "EPERM",
    "epoll_ctl": "ENOMEM",
    "chdir": "EACCES",
    "fchown": "EPERM",
    "setresuid": "EAGAIN",
    "setgroups": "EPERM",
    "capset": "EPERM",
    "setsid": "EPERM",
    "wait4": "ECHILD",
    "waitid": "EINTR",
}


class Fault(NamedTuple):
    syscall: str
    number: int  # which of its calls, from 1
    what: str  # an errno's name, or KILL

    def __str__(self) -> str:
        return f"{self.syscall} number {self.number}: {self.what}"


@contextlib.contextmanager
def trace(pid: int, *options: str, output: str = "/dev/null") -> Iterator[None]:
    """strace on a process that runs, and on its children to come, for as long as the block takes."""
    process = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", output, "-p", str(pid), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        eventually(lambda: _tracer(pid) == process.pid or process.poll() is not None, interval=0.002)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
        assert b"invalid" not in said, said


def inject(pid: int, fault: Fault) -> contextlib.AbstractContextManager[None]:
    how = "signal=KILL" if fault.what == KILL else f"error={fault.what}"
    return trace(pid, "-e", f"inject={fault.syscall}:{how}:when={fault.number}")


def count(text: str) -> dict[str, int]:
    """From an output of ``trace``: for each system call, how many the busiest process made."""
    per_process: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if (found := re.match(r"(\d+) +(\w+)\(", line)) is not None:
            per_process[found[1], found[2]] += 1
    most: dict[str, int] = {}
    for (_, name), number in per_process.items():
        most[name] = max(most.get(name, 0), number)
    return most


def _tracer(pid: int) -> int:
    with contextlib.suppress(OSError):
        found = re.search(r"^TracerPid:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0
