"""A snapshot of a large volume beside `cp -a`, and a bind mount that is idmapped beside one that is not, in one run.

    .venv/bin/python tests/bench/bench_storage.py [--size 1024] [--rounds 3] [--json FILE]

``--size`` is the volume's, in MiB. Saving is measured twice: the command with the stop and start of the one service,
and what devenv says that the snapshot itself took. On the disk that holds /tmp; as root.
"""

from __future__ import annotations

import argparse
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

from tests.support import isolation, runner

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


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def said(text: str) -> float:
    """Of ``… in 12 ms``, in seconds."""
    found = re.search(r"in (\d+) ms", text)
    assert found, text
    return int(found[1]) / 1000


def snapshots(devenv: runner.Devenv, size: int, rounds: int) -> dict[str, list[float]]:
    devenv.inside("app", f"head -c {size}M /dev/urandom > /data/large")
    os.sync()
    [volume] = pathlib.Path(devenv.data).glob("volumes/*/*_data/_data")
    copy = f"{devenv.folder}/copy"
    found: dict[str, list[float]] = {"cp -a": [], "save": [], "save alone": [], "restore": [], "restore alone": []}
    for number in range(rounds):
        found["cp -a"].append(timed(lambda: subprocess.run(["cp", "-a", "--reflink=never", volume, copy], check=True)))
        shutil.rmtree(copy)
        devenv.inside("app", "echo changed >> /data/small")
        for what, words in (("save", ["save", f"s{number}"]), ("restore", ["restore", "s0"])):
            began = time.perf_counter()
            told = devenv("snapshot", *words).stderr
            found[what].append(time.perf_counter() - began)
            found[f"{what} alone"].append(said(told))
    return found


def binds(devenv: runner.Devenv, rounds: int) -> dict[str, list[float]]:
    """By turns. The time is taken inside, so that what `exec` takes is not in it."""
    work = (
        "cd {0}; a=$(date +%s%N); head -c 256M /dev/zero > big; cat big > /dev/null; i=0; "
        f"while [ $i -lt {FILES} ]; do i=$((i+1)); echo x > f$i; done; cat f* > /dev/null; rm big f*; "
        "b=$(date +%s%N); echo $((b-a))"
    )
    found: dict[str, list[float]] = {"mapped": [], "plain": []}
    for _ in range(rounds):
        for kind, times in found.items():
            times.append(int(devenv.inside("app", work.format(f"/{kind}"))) / 1e9)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write all samples, in seconds")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench_storage needs root: only root maps ids and mounts overlays for all", file=sys.stderr)
        return 2
    session = isolation.enter()
    folder = f"{session.folder}/bench"
    os.makedirs(f"{folder}/p")
    devenv = runner.Devenv(folder, runner.own_command())
    devenv.cwd = f"{folder}/p"
    try:
        pathlib.Path(devenv.cwd, "devenv.yaml").write_text(SPEC)
        for name in ("mapped", "plain"):
            os.mkdir(f"{devenv.cwd}/{name}")
        for path in (devenv.cwd, *(f"{devenv.cwd}/{name}" for name in ("mapped", "plain"))):
            os.chown(path, PERSON, PERSON)
        devenv("up", "-d")
        found = binds(devenv, options.rounds) | snapshots(devenv, options.size, options.rounds)
    finally:
        devenv.close()
        isolation.leave(session)
    medians = {name: statistics.median(times) for name, times in found.items()}
    for name, base in (("mapped", "plain"), *((each, "cp -a") for each in medians if each not in {"mapped", "plain"})):
        print(f"{name:14} {medians[name] * 1000:9.1f} ms  {medians[name] / medians[base]:7.3f} of `{base}`")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
