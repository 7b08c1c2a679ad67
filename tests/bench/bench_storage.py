"""A snapshot of a large volume beside `cp -a`, and a bind mount that is idmapped beside one that is not, in one run.

    .venv/bin/python tests/bench/bench_storage.py [--size 5120] [--rounds 3] [--on btrfs] [--ordinary] [--json FILE]

``--size`` is the volume's, in MiB. Saving is measured twice: the command with the stop and start of the one service,
and what devenv says that the snapshot itself took. Beside the times is the room that it took on the disk. On the disk
that holds /tmp, or on a filesystem in a file there; `--ordinary` has an ordinary user take the snapshots.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.support import filesystem, isolation, runner

SPEC = """
services:
  app:
    image: "host:"
    command: [sleep, "10000"]
    stop_signal: SIGKILL
    volumes: ["data:/data", "./mapped:/mapped", "./plain:/plain:noidmap"]
volumes: {data: {}}
"""
PERSON = 4711
FILES = 2000

Samples = dict[str, list[float]]


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def said(text: str) -> float:
    """Of ``… in 12 ms``, in seconds."""
    found = re.search(r"in (\d+) ms", text)
    assert found, text
    return int(found[1]) / 1000


def room(folder: str, *, alone: bool) -> float:
    """What is used, in MiB: of the filesystem, where nobody else is on it, and else of all files below."""
    os.sync()
    if alone:
        found = os.statvfs(folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize / (1 << 20)
    told = subprocess.run(["du", "-sxk", folder], capture_output=True, text=True, check=False).stdout
    return int(told.split()[0]) / 1024


def snapshots(devenv: runner.Devenv, size: int, rounds: int, *, alone: bool) -> tuple[Samples, Samples]:
    """Seconds, and MiB."""
    devenv.inside("app", f"head -c {size}M /dev/urandom > /data/large", timeout=600)
    [volume] = pathlib.Path(devenv.data).glob("volumes/*/*_data/_data")
    copy = f"{devenv.folder}/copy"
    found: Samples = {"cp -a": [], "save": [], "save alone": [], "restore": [], "restore alone": []}
    took: Samples = {"save": [], "restore": []}
    for number in range(rounds):
        devenv.inside("app", "echo changed >> /data/small")
        for what, words in (("save", ["save", f"s{number}"]), ("restore", ["restore", "s0"])):
            before, began = room(devenv.data, alone=alone), time.perf_counter()
            told = devenv("snapshot", *words, timeout=600).stderr
            found[what].append(time.perf_counter() - began)
            found[f"{what} alone"].append(said(told))
            took[what].append(room(devenv.data, alone=alone) - before)
    # Last: a filesystem goes on for a while to give back the room of what was removed.
    for _ in range(rounds):
        found["cp -a"].append(timed(lambda: subprocess.run(["cp", "-a", "--reflink=never", volume, copy], check=True)))
        shutil.rmtree(copy)
    return found, took


def binds(devenv: runner.Devenv, rounds: int) -> Samples:
    """By turns. The time is taken inside, so that what `exec` takes is not in it."""
    work = (
        "cd {0}; a=$(date +%s%N); head -c 256M /dev/zero > big; cat big > /dev/null; i=0; "
        f"while [ $i -lt {FILES} ]; do i=$((i+1)); echo x > f$i; done; cat f* > /dev/null; rm big f*; "
        "b=$(date +%s%N); echo $((b-a))"
    )
    found: Samples = {"mapped": [], "plain": []}
    for _ in range(rounds):
        for kind, times in found.items():
            times.append(int(devenv.inside("app", work.format(f"/{kind}"))) / 1e9)
    return found


def measured(session: isolation.Session, folder: str, options: argparse.Namespace) -> tuple[Samples, Samples]:
    os.makedirs(f"{folder}/p")
    user = session.users["dvrange"] if options.ordinary else None
    devenv = runner.Devenv(folder, isolation.install(session) if user else runner.own_command(), user)
    devenv.cwd = f"{folder}/p"
    try:
        pathlib.Path(devenv.cwd, "devenv.yaml").write_text(SPEC)
        for name in ("mapped", "plain"):
            os.mkdir(f"{devenv.cwd}/{name}")
        owner = user.uid if user else PERSON
        for path in (folder, devenv.cwd, *(f"{devenv.cwd}/{name}" for name in ("mapped", "plain"))):
            os.chown(path, owner, owner)
        devenv("up", "-d")
        mapped = {} if user else binds(devenv, options.rounds)
        found, took = snapshots(devenv, options.size, options.rounds, alone=bool(options.on))
        return mapped | found, took
    finally:
        devenv.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--on", choices=filesystem.kinds("ext4", "btrfs", "xfs"), help="a filesystem of its own")
    parser.add_argument("--ordinary", action="store_true", help="as an ordinary user; snapshots alone")
    parser.add_argument("--json", metavar="FILE", help="write all samples, in seconds and MiB")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench_storage needs root: only root maps ids, mounts and makes users", file=sys.stderr)
        return 2
    session = isolation.enter()
    folder = f"{session.folder}/bench"
    try:
        with contextlib.ExitStack() as stack:
            if options.on:
                size = (2 * options.size + 2048) << 20  # `cp -a` has its copy there
                images = pathlib.Path(session.folder, "images")
                stack.enter_context(filesystem.mounted(options.on, pathlib.Path(folder), images, size))
            found, took = measured(session, folder, options)
    finally:
        isolation.leave(session)
    medians = {name: statistics.median(times) for name, times in found.items()}
    bases = {each: "plain" if each in {"mapped", "plain"} else "cp -a" for each in medians}
    for name, base in bases.items():
        print(f"{name:14} {medians[name] * 1000:9.1f} ms  {medians[name] / medians[base]:7.3f} of `{base}`")
    for name, each in took.items():
        print(f"{name:14} {statistics.median(each):9.1f} MiB of {options.size}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({**found, "room": took}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
