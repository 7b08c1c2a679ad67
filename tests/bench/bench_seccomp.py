"""The default filter: what it costs to make, to load and to run under, beside the same policy compiled by libseccomp.

    ./dev bench [--rounds 5]

Needs no root. `load` is the system call alone, in a child that has no filter yet; the floor is a filter of one
instruction.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
import statistics
import struct
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from devenv.linux import process, seccomp, syscalls
from devenv.runtime import capabilities, seccomp_bpf, seccomp_policy, seccomp_profile, seccomp_rules
from tests.support import bpf, libseccomp

SPEC_ALLOW = 4
ALLOW_ALL = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)


def in_child(measure: Callable[[], float]) -> float:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, struct.pack("d", measure()))
        finally:
            os._exit(0)
    os.close(write)
    answer = os.read(read, 8)
    os.close(read)
    os.waitpid(child, 0)
    return float(struct.unpack("d", answer)[0])


def load(program: bytes) -> float:
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    before = time.perf_counter()
    seccomp.set_mode_filter(program, SPEC_ALLOW)
    return time.perf_counter() - before


def steps(code: bytes, architecture: str) -> float:
    """How many instructions a call costs where the kernel remembers nothing (before 5.11), on average over them all."""
    program = bpf.Program(code)
    numbers = syscalls.numbers(architecture).values()
    calls = (bpf.Call(number, seccomp_bpf.AUDIT_ARCH[architecture]) for number in numbers)
    return statistics.mean(program.trace(call)[1] for call in calls)


def once(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_known_args()[0].rounds
    target = seccomp_profile.target(capabilities.DEFAULT)
    if target is None:
        sys.exit("no table of this processor's system calls")
    described = seccomp_policy.DEFAULT.resolve(target)
    policy = seccomp_rules.read(described, architecture=target.architecture)
    compilers = {"devenv": seccomp_bpf.compile_policy}
    library = libseccomp.load()
    if library is not None:
        compilers["libseccomp"] = lambda given: libseccomp.compile_policy(library, given)
    programs = {name: compiler(policy) for name, compiler in compilers.items()}
    print(f"linux.seccomp in config.json: {len(json.dumps(described, separators=(',', ':')))} bytes")
    print(f"{'':12}{'instructions':>14}{'compile ms':>12}{'load ms':>10}{'steps a call':>14}")
    floor = statistics.median(in_child(functools.partial(load, ALLOW_ALL)) for _ in range(rounds * 20))
    for name, program in programs.items():
        compiled = statistics.median(once(functools.partial(compilers[name], policy)) for _ in range(rounds))
        loaded = statistics.median(in_child(functools.partial(load, program)) for _ in range(rounds * 20))
        mean = steps(program, target.architecture)
        print(f"{name:12}{len(program) // 8:14}{compiled * 1e3:12.2f}{loaded * 1e3:10.3f}{mean:14.1f}")
    print(f"{'floor':12}{1:14}{'':12}{floor * 1e3:10.3f}")


if __name__ == "__main__":
    main()
