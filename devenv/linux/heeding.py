"""Whether a process does anything at all on a signal.

The first process of a pid namespace gets no signal that it has no handler for, not even from outside: the kernel drops
it, where any other process would end (pid_namespaces(7)). Programs that were never meant to be process 1 of anything
are like that, and whoever waits for them to end on SIGTERM waits in vain.
"""

from __future__ import annotations

import os

# rt_sigtimedwait(2) of x86-64, i386, x32, arm64 and arm. What it waits for looks neither blocked nor handled.
_WAITING = frozenset({128, 177, 421, 523 | 1 << 30, 137})
_MACHINES = frozenset({"x86_64", "aarch64"})


def is_deaf(pid: int, number: int) -> bool:
    """Whether the kernel drops signal ``number`` for the process. False wherever that can't be told."""
    if os.uname().machine not in _MACHINES:
        return False
    bit = 1 << (number - 1)
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            # Waiting before or after: the masks are of some moment between.
            if _waits(pid, task):
                return False
            found = _status(pid, task)
            if found["NSpid"].split()[-1] != "1" and task == str(pid):
                return False
            if any(int(found[name], 16) & bit for name in ("SigBlk", "SigCgt", "SigIgn")) or _waits(pid, task):
                return False
    except (OSError, KeyError, ValueError):
        return False
    return True


def _status(pid: int, task: str) -> dict[str, str]:
    with open(f"/proc/{pid}/task/{task}/status") as file:
        return dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)


def _waits(pid: int, task: str) -> bool:
    with open(f"/proc/{pid}/task/{task}/syscall") as file:
        number = file.read().split()[0]
    return number.lstrip("-").isdecimal() and int(number) in _WAITING
