"""Names that must not clash: a project is its name and its folder, a container is 32 random bytes."""

from __future__ import annotations

import os
from typing import NamedTuple


class Project(NamedTuple):
    """Two folders of one name are two projects; neither touches the other's things."""

    id: str
    name: str
    directory: str  # real and absolute


def project(name: str, directory: str) -> Project:
    import hashlib  # it loads OpenSSL: 4 ms and 4 MB, which the monitor has no use for

    real = os.path.realpath(directory)
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()
    return Project(f"{name}-{digest[:8]}", name, real)


def new_container_id() -> str:
    return os.urandom(32).hex()


def process_start_time(pid: int) -> int | None:
    """Field 22 of ``/proc/PID/stat`` in clock ticks since boot, or None when the process is gone or a zombie.

    A pid is proof of nothing without it: the kernel hands numbers out again (proc_pid_stat(5)).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name may hold spaces and brackets, so the fields count from its last bracket.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])
