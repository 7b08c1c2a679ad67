"""How long a save takes to be seen in a container, and what watching costs. By hand: ``tests/bench/bench_sync.py``.

    save       one file of so many is written; until a process in the container has read the new content
    new        10,000 new files, until the last is there; beside `cp -r` of the same files into the same container's
               root, which is the floor
    idle       what the supervisor, the monitor and the hand use of a core while nothing happens
    start      from `devenv up -d --watch` without files to `… with files`, and what the supervisor takes then

The reader is a process in the container that waits by inotify, so what is measured is what a reloader would see.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

SPEC = """
name: bench-sync
services:
  web:
    image: "host:"
    command: [sleep, "100000"]
    stop_signal: SIGKILL
    network_mode: none
    develop:
      watch:
        - {path: ./src, target: /app, action: sync, initial_sync: true}
"""

# Waits in the container until a file has other content, and says when.
READER = """
import os, sys, time
path, seen = "/app/probe", None
print("ready", flush=True)
while True:
    try:
        with open(path) as file:
            text = file.read()
    except FileNotFoundError:
        text = None
    if text != seen and text:
        seen = text
        print(text, time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)
    time.sleep(0.0002)
"""


class Bench:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.project = folder / "p"
        self.source = self.project / "src"
        self.source.mkdir(parents=True)
        (self.project / "devenv.yaml").write_text(SPEC)
        self.command = f"{os.path.dirname(sys.executable)}/devenv"
        self.environment = os.environ | {"DEVENV_DATA_HOME": f"{folder}/d", "DEVENV_RUNTIME_DIR": f"{folder}/r"}

    def __call__(self, *arguments: str) -> str:
        words = [self.command, *arguments]
        done = subprocess.run(words, cwd=self.project, env=self.environment, text=True, capture_output=True, check=True)
        return done.stdout

    def fill(self, count: int, name: str) -> None:
        for number in range(count):
            folder = self.source / name / f"d{number // 50}"
            if number % 50 == 0:
                folder.mkdir(parents=True)
            (folder / f"f{number}.py").write_text(f"# {number}\n" * 20)

    def processes(self) -> list[pathlib.Path]:
        """The supervisor, the monitor and what carries over."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes()
                ours = any(name in words for name in (b"devenv.supervisor", b"devenv.runtime", b"devenv.sync"))
                if ours and str(self.folder).encode() in words + (path / "environ").read_bytes():
                    found.append(path)
        return found

    def memory(self) -> int:
        """PSS in KiB."""
        total = 0
        for path in self.processes():
            text = (path / "smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        return total

    def ticks(self) -> int:
        """Of the processor, so far."""
        return sum(
            sum(map(int, (path / "stat").read_text().rpartition(")")[2].split()[11:13])) for path in self.processes()
        )


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="bench-sync-") as name:
        made = Bench(pathlib.Path(name))
        try:
            yield made
        finally:
            made("down", "-t", "0")


def save(made: Bench, rounds: int) -> list[float]:
    words = [made.command, "exec", "-T", "web", "/usr/bin/python3", "-c", READER]
    reader = subprocess.Popen(words, cwd=made.project, env=made.environment, text=True, stdout=subprocess.PIPE)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    times = []
    for number in range(rounds):
        time.sleep(0.15)
        began = time.clock_gettime(time.CLOCK_MONOTONIC)
        (made.source / "probe").write_text(f"n{number}")
        seen, moment = reader.stdout.readline().split()
        assert seen == f"n{number}", (seen, number)
        times.append((float(moment) - began) * 1000)
    reader.kill()
    reader.wait()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS")
    given = parser.parse_args()
    with bench() as made:
        made.fill(given.files, "many")
        began = time.monotonic()
        made("up", "-d", "--watch")
        print(f"up -d --watch, {given.files} files, all carried over: {time.monotonic() - began:.2f} s")
        print(f"{len(made.processes())} processes of devenv's: {made.memory() / 1024:.1f} MiB (PSS)")
        time.sleep(3.0)
        before = made.ticks()
        time.sleep(given.idle)
        used = (made.ticks() - before) / os.sysconf("SC_CLK_TCK") / given.idle
        print(f"idle for {given.idle:.0f} s: {100 * used:.2f} % of a core")
        times = sorted(save(made, given.rounds))
        print(f"a save: p50 {statistics.median(times):.1f} ms, p99 {times[int(len(times) * 0.99) - 1]:.1f} ms")
        root = container_root(made)
        many_new(made, root, 10_000)


def container_root(made: Bench) -> str:
    state = next(pathlib.Path(made.folder, "d/containers").glob("*/state.json")).read_text()
    return f"/proc/{json.loads(state)['pid']}/root"


def many_new(made: Bench, root: str, count: int) -> None:
    made.fill(count, "staged")
    staged = made.folder / "staged"
    shutil.move(made.source / "staged", staged)
    time.sleep(1.0)
    until_gone = pathlib.Path(f"{root}/app/staged")
    while until_gone.exists():
        time.sleep(0.01)
    began = time.monotonic()
    subprocess.run(["cp", "-r", str(staged), f"{root}/floor"], check=True)
    floor = time.monotonic() - began
    last = f"{root}/app/new/d{(count - 1) // 50}/f{count - 1}.py"
    began = time.monotonic()
    shutil.move(staged, made.source / "new")
    seen = 0
    while seen < count:
        seen = sum(len(files) for _, _, files in os.walk(f"{root}/app/new")) if os.path.exists(last) else 0
        time.sleep(0.01)
    took = time.monotonic() - began
    print(f"{count} new files: {took:.2f} s; cp -r: {floor:.2f} s; ratio {took / floor:.2f}")


if __name__ == "__main__":
    main()
