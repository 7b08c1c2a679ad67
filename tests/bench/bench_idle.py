"""What ten services cost while nobody does anything: memory and processor of devenv's own processes.

    memory     PSS, so that what two of them share counts once
    idle       what each uses of a core, by its own clock; and how often it is woken

By hand: ``tests/bench/bench_idle.py [--services 10] [--seconds 60]``. Any user may; as root in namespaces of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.support import engine, isolation, runner


def spec(services: int) -> str:
    one = {"image": "host:", "command": ["sleep", "infinity"], "stop_signal": "SIGKILL"}
    return json.dumps({"name": "idle", "services": {f"s{number}": one for number in range(services)}})


def measure(command: runner.Devenv, seconds: float) -> None:
    pids = {role: pid for role in engine.ROLES if (pid := engine.find(command, role)) is not None}
    time.sleep(5.0)  # health, names and the cgroups' files settle
    before = {role: (engine.ticks(pid), engine.wakeups(pid)) for role, pid in pids.items()}
    time.sleep(seconds)
    total = 0
    for role, pid in pids.items():
        memory = engine.memory(pid)
        total += memory
        used = (engine.ticks(pid) - before[role][0]) / os.sysconf("SC_CLK_TCK") / seconds
        woken = (engine.wakeups(pid) - before[role][1]) / seconds
        print(f"{role:<10} {memory / 1024:5.1f} MiB  {100 * used:.3f} % of a core  woken {woken:.2f} times a second")
    print(f"{'together':<10} {total / 1024:5.1f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    given, _ = parser.parse_known_args()
    session = isolation.enter()
    try:
        command = runner.Devenv(session.folder, f"{os.path.dirname(sys.executable)}/devenv")
        pathlib.Path(session.folder, "devenv.yaml").write_text(spec(given.services))
        command("up", "-d")
        try:
            measure(command, given.seconds)
        finally:
            command("down", "-t", "0")
    finally:
        isolation.leave(session)


if __name__ == "__main__":
    main()
