"""``state.json``: what the monitor wrote about a container, believed only as far as the process bears it out."""

from __future__ import annotations

from typing import NamedTuple

from devenv.util import fs, identity


class State(NamedTuple):
    id: str
    status: str  # creating, created, running, paused, stopped
    pid: int | None = None
    start_time: int = 0  # field 22 of /proc/PID/stat, in clock ticks since boot
    boot_id: str = ""
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    exit_code: int | None = None  # 128+signal when one killed it; None when nobody saw it end
    signal: int | None = None
    oom_killed: bool = False
    error: str | None = None
    restarts: int = 0


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def load(container_dir: str) -> State | None:
    """None for a container that was never created. One that is said to run and does not is stopped, code unknown."""
    data = fs.read_json(f"{container_dir}/state.json")
    if not isinstance(data, dict) or "id" not in data:
        return None
    state = State(**{key: value for key, value in data.items() if key in State._fields})
    if state.status == "stopped" or is_alive(state):
        return state
    return state._replace(status="stopped", pid=None, exit_code=None)


def is_alive(state: State) -> bool:
    """A pid counts only with its start time, and both only since the same boot."""
    return (
        state.pid is not None
        and state.boot_id == boot_id()
        and identity.process_start_time(state.pid) == state.start_time
    )
