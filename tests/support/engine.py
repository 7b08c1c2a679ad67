"""Which process of an installation is which, and killing them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal

from tests.support import runner

ROLES = ("supervisor", "zygote", "monitor", "proxy")


def find(devenv: runner.Devenv, role: str) -> int | None:
    """The pid of a role of the installation's only project. Each holds a lock; the proxy's was taken for it."""
    for folder in pathlib.Path(devenv.run_directory).glob("projects/*"):
        found = _named(f"devenv-ports:{folder.name}") if role == "proxy" else _holder(folder / f"{role}.lock")
        if found is not None:
            return found
    return None


def _holder(path: pathlib.Path) -> int | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    # A list that changes while it is read may lack a line (proc_locks(5) comes in pieces).
    for _ in range(3):
        for line in pathlib.Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if wanted in words and words[1] == "FLOCK":
                return int(words[words.index(wanted) - 1])
    return None


def _named(word: str) -> int | None:
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                return int(path.parent.name)
    return None


def kill(*pids: int | None) -> None:
    """SIGKILL for all of them at once, as far as they are there; returns when they are gone."""
    held = []
    for pid in pids:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                held.append(os.pidfd_open(pid))
    for pidfd in held:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for pidfd in held:
        select.select([pidfd], [], [], 10)
        os.close(pidfd)


def workers(devenv: runner.Devenv) -> list[int]:
    """The commands that the zygote has forked and that run now."""
    zygote, supervisor = find(devenv, "zygote"), find(devenv, "supervisor")
    if zygote is None:
        return []
    children = pathlib.Path(f"/proc/{zygote}/task/{zygote}/children")
    with contextlib.suppress(OSError):
        return [int(pid) for pid in children.read_text().split() if int(pid) != supervisor]
    return []


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def memory(pid: int) -> int:
    """PSS in KiB: what it shares with others counts in parts."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError(f"no Pss of {pid}")


def ticks(pid: int) -> int:
    """Of the processor, so far, by all its threads."""
    return sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def wakeups(pid: int) -> int:
    """How often its threads went to sleep, so far."""
    found = 0
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
            found += int(lines["voluntary_ctxt_switches"])
    return found
