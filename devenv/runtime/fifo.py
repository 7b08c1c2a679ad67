"""A container's standard streams as named pipes in ``<run>/containers/<id>/``.

The container holds its ends with O_RDWR: such a pipe has a reader as long as the container lives, so a monitor that
dies never makes it meet EPIPE. It blocks on a full pipe at worst, and the next monitor opens the same pipe by its name
and goes on. The monitor reads through a descriptor of its own that is O_RDONLY, and sees the end once the container's
last process is gone.

Standard input is one of

    null   /dev/null
    open   O_RDWR: it never ends, whoever comes and goes (``stdin_open``)
    once   O_RDONLY: it ends when its writer goes; the writing end is given to the first one who attaches (``run -i``)
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

STREAMS = ("stdout", "stderr")


class Stdio(NamedTuple):
    child: tuple[int, int, int]  # the container's; the monitor closes them once it is created
    outputs: dict[str, int]  # stream -> the monitor's reading end
    stdin_writer: int  # -1 unless "once"


def path(run_dir: str, stream: str) -> str:
    return f"{run_dir}/{stream}"


def prepare(run_dir: str, *, stdin: str, terminal: bool) -> Stdio:
    """Make the pipes afresh. With a terminal nothing but its pty is needed, which the container makes."""
    os.makedirs(run_dir, mode=0o700, exist_ok=True)
    opened: list[int] = []

    def keep(descriptor: int) -> int:
        opened.append(descriptor)
        return descriptor

    try:
        if terminal:
            null = [keep(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) for _ in range(3)]
            return Stdio((null[0], null[1], null[2]), {}, -1)
        for name in STREAMS:
            _make(path(run_dir, name))
        writer = -1
        if stdin == "null":
            source = keep(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        else:
            _make(path(run_dir, "stdin"))
            source = keep(os.open(path(run_dir, "stdin"), os.O_RDWR | os.O_CLOEXEC))
            if stdin == "once":
                # In this order none of the two opens waits for the other: fifo(7).
                writer, both = keep(os.open(path(run_dir, "stdin"), os.O_WRONLY | os.O_CLOEXEC)), source
                source = keep(os.open(path(run_dir, "stdin"), os.O_RDONLY | os.O_CLOEXEC))
                opened.remove(both)
                os.close(both)
        sinks = [keep(os.open(path(run_dir, name), os.O_RDWR | os.O_CLOEXEC)) for name in STREAMS]
        outputs = {name: keep(descriptor) for name, descriptor in reopen(run_dir).items()}
        return Stdio((source, sinks[0], sinks[1]), outputs, writer)
    except BaseException:
        for descriptor in opened:
            os.close(descriptor)
        raise


def reopen(run_dir: str) -> dict[str, int]:
    """The reading ends of a container's output. ``{}`` for one that has a terminal, or whose pipes are gone."""
    found: dict[str, int] = {}
    for name in STREAMS:
        try:
            found[name] = os.open(path(run_dir, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        except OSError:
            for descriptor in found.values():
                os.close(descriptor)
            raise
    return found


def reopen_of(pid: int) -> dict[str, int]:
    """As ``reopen``, when somebody has removed the names: from the container's own descriptors, if they are pipes."""
    found = {}
    for number, name in enumerate(STREAMS, start=1):
        try:
            held = os.open(f"/proc/{pid}/fd/{number}", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            # What a container has put there instead is not opened.
            if stat.S_ISFIFO(os.fstat(held).st_mode):
                found[name] = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(held)
    return found


def remove(run_dir: str) -> None:
    """The folder with all that is in it, which are pipes and the journal: there are no folders below."""
    try:
        names = os.listdir(run_dir)
    except FileNotFoundError:
        return
    for name in names:
        os.unlink(f"{run_dir}/{name}")
    os.rmdir(run_dir)


def _make(name: str) -> None:
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass
    os.mkfifo(name, 0o600)
