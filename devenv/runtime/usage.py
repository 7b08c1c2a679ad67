"""What a container uses, as the kernel counts it; for whoever may read, with no monitor and no supervisor needed.

From the container's cgroups, of either version; where it has none (an ordinary user without a delegated one), from its
processes, which are those of its pid namespace. Counters only grow, so a rate is the difference of two samples.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from devenv.runtime import cgroup

_RESOURCES = ("cpu", "memory", "io")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    taken: float  # seconds, of the monotonic clock
    cpu: float  # seconds of processor time so far
    memory: int  # bytes, without what could be dropped at once
    memory_limit: int  # bytes; the machine's where there is none, or a larger one
    pids: int  # processes and threads
    read: int  # bytes from block devices so far, and to them
    written: int
    received: int  # bytes from the network so far, and to it
    sent: int
    # cpu, memory, io -> per cent of the last ten seconds in which something of it had to wait (PSI); v2 alone tells
    pressure: dict[str, float]


def read(pid: int, container_id: str, *, network: bool = True) -> Usage | None:
    """``pid`` is the container's first process. None when it has just ended. ``network``: whether it has its own."""
    try:
        folders = cgroup.of_container(pid, container_id)
        total = _total_memory()
        if "memory" in folders or "" in folders:
            found = _v2(folders[""]) if "" in folders else _v1(folders)
        else:
            found = _processes(pid)
        received, sent = _network(pid) if network else (0, 0)
    except OSError:
        return None
    limit = found.memory_limit
    return found._replace(
        memory_limit=min(limit, total) if limit > 0 else total, received=received, sent=sent, taken=time.monotonic()
    )


def of_cgroups(folders: dict[str, str]) -> Usage:
    """Of any cgroup: controller -> its folder, "" where the unified hierarchy is the only one. Without the network."""
    return (_v2(folders[""]) if "" in folders else _v1(folders))._replace(taken=time.monotonic())


def _v2(folder: str) -> Usage:
    """A controller that isn't there for us has no files; of the processor's time there are always some."""
    read, written = 0, 0
    for line in _text(f"{folder}/io.stat").splitlines():
        values = dict(word.split("=", 1) for word in line.split()[1:] if "=" in word)
        read += int(values.get("rbytes", 0))
        written += int(values.get("wbytes", 0))
    memory = _number(f"{folder}/memory.current") - _pairs(f"{folder}/memory.stat").get("inactive_file", 0)
    return Usage(
        taken=0.0,
        cpu=_pairs(f"{folder}/cpu.stat").get("usage_usec", 0) / 1e6,
        memory=max(memory, 0),
        memory_limit=_number(f"{folder}/memory.max"),
        pids=_number(f"{folder}/pids.current"),
        read=read,
        written=written,
        received=0,
        sent=0,
        pressure=_pressure(folder),
    )


def _v1(folders: dict[str, str]) -> Usage:
    memory = folders["memory"]
    used = _number(f"{memory}/memory.usage_in_bytes") - _pairs(f"{memory}/memory.stat").get("total_inactive_file", 0)
    read, written = 0, 0
    for line in _text(f"{folders.get('blkio')}/blkio.throttle.io_service_bytes_recursive").splitlines():
        words = line.split()  # 8:0 Read 4096; the last line is a total, of two words
        read += int(words[2]) if words[1] == "Read" else 0
        written += int(words[2]) if words[1] == "Write" else 0
    return Usage(
        taken=0.0,
        cpu=_number(f"{folders.get('cpuacct')}/cpuacct.usage") / 1e9,
        memory=max(used, 0),
        memory_limit=_number(f"{memory}/memory.limit_in_bytes"),
        pids=_number(f"{folders.get('pids')}/pids.current"),
        read=read,
        written=written,
        received=0,
        sent=0,
        pressure={},
    )


def _processes(first: int) -> Usage:
    wanted = os.readlink(f"/proc/{first}/ns/pid")
    cpu = memory = threads = read = written = 0
    for name in os.listdir("/proc"):
        try:
            if not name.isdecimal() or os.readlink(f"/proc/{name}/ns/pid") != wanted:
                continue
            # proc_pid_stat(5), from the state on: utime 11 … cstime 14, num_threads 17; proc_pid_statm(5): rss, shared
            fields = _bytes(f"/proc/{name}/stat").rpartition(b")")[2].split()
            pages = _bytes(f"/proc/{name}/statm").split()
        except OSError:
            continue
        cpu += sum(int(field) for field in fields[11:15])
        threads += int(fields[17])
        memory += (int(pages[1]) - int(pages[2])) * _PAGE
        transfers = dict(line.split(": ") for line in _text(f"/proc/{name}/io").splitlines())
        read += int(transfers.get("read_bytes", 0))
        written += int(transfers.get("write_bytes", 0))
    return Usage(0.0, cpu / _TICKS, memory, 0, threads, read, written, 0, 0, {})


def _network(pid: int) -> tuple[int, int]:
    received = sent = 0
    for line in _bytes(f"/proc/{pid}/net/dev").decode().splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            # proc_pid_net(5): eight numbers of what came, then eight of what went
            values = counters.split()
            received, sent = received + int(values[0]), sent + int(values[8])
    return received, sent


def _pressure(folder: str) -> dict[str, float]:
    found = {}
    for name in _RESOURCES:
        for line in _text(f"{folder}/{name}.pressure").splitlines():
            kind, *values = line.split()
            if kind == "some":
                found[name] = float(values[0].partition("=")[2])
    return found


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _text(path: str) -> str:
    """Empty where the kernel, or our rights, have no such file."""
    try:
        return _bytes(path).decode()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0  # "max" is no limit


def _pairs(path: str) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in _text(path).splitlines())}
