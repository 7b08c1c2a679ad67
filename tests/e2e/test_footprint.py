"""What devenv's own processes take while ten services run and nobody does anything."""

from __future__ import annotations

import os
import time

from tests.support import engine, projects, runner

SERVICES = 10
# Measured: 67 MiB (`tests/bench/bench_idle.py`). Python versions and libraries differ, so with room to spare.
MEBIBYTES = 85
SECONDS = 2.0


def test_they_are_small_and_sleep(devenv: runner.Devenv, project: projects.Project) -> None:
    one = '{image: "host:", command: [sleep, infinity], stop_signal: SIGKILL}'
    project.write("services:\n" + "".join(f"  s{number}: {one}\n" for number in range(SERVICES)))
    devenv("up", "-d")
    devenv("ps")  # by the zygote, so that is there
    pids = {role: pid for role in ("supervisor", "zygote", "monitor") if (pid := engine.find(devenv, role))}
    assert len(pids) == 3

    def busy() -> bool:
        """Whether something is still being done after the start."""
        before = {pid: engine.ticks(pid) for pid in pids.values()}
        time.sleep(SECONDS)
        used = sum(engine.ticks(pid) - before[pid] for pid in pids.values())
        return used > 0.02 * SECONDS * os.sysconf("SC_CLK_TCK")

    assert not all(busy() for _ in range(3)), "they use more than 2 % of a core"
    sizes = {role: engine.memory(pid) / 1024 for role, pid in pids.items()}
    assert sum(sizes.values()) < MEBIBYTES, sizes
