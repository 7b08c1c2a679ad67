"""Leases end with their process, whatever becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from devenv.image import lease
from devenv.util import paths

HOLD = """
import sys, time
from devenv.image import lease
from devenv.util import paths
held = lease.Lease(paths.Paths(sys.argv[1], sys.argv[1]))
held.add("sha256:" + sys.argv[2] * 64)
print("ready", flush=True)
sys.stdin.read()
"""


def test_what_is_leased(where: paths.Paths) -> None:
    assert lease.living(where) == set()
    with lease.Lease(where) as one:
        one.add("a" * 64, "sha256:" + "b" * 64)
        one.add("a" * 64)
        with lease.Lease(where) as two:
            two.add("host-1")
            assert lease.living(where) == {"a" * 64, "b" * 64, "host-1"}
        assert lease.living(where) == {"a" * 64, "b" * 64}
    assert lease.living(where) == set()


def test_leases_of_processes(where: paths.Paths) -> None:
    command = [sys.executable, "-c", HOLD, where.data]
    running = []
    for name in "ab":
        user = subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        running.append(user)
    assert lease.living(where) == {"a" * 64, "b" * 64}
    running[0].kill()
    running[0].communicate()
    assert lease.living(where) == {"b" * 64}
    running[1].communicate("")
    assert lease.living(where) == set()


def test_files_of_the_dead_do_not_pile_up(where: paths.Paths) -> None:
    os.makedirs(f"{where.data}/leases")
    for number in range(100):
        with open(f"{where.data}/leases/{number}", "w") as file:
            file.write("a" * 64 + "\n")
    with lease.Lease(where):
        assert len(os.listdir(f"{where.data}/leases")) == 1


def test_a_collector_waits_for_a_name_that_is_written_and_the_other_way_round(where: paths.Paths) -> None:
    with lease.Lease(where) as held:
        with lease.exclusive(where):
            thread = threading.Thread(target=held.add, args=("a" * 64,))
            thread.start()
            thread.join(0.1)
            assert thread.is_alive()
            assert lease.living(where) == set()
        thread.join(60)
        assert lease.living(where) == {"a" * 64}
