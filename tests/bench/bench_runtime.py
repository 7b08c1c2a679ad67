"""A container's life, `exec`, memory and log throughput: devenv's runtime beside crun, runc and conmon, in one run.

    ./dev bench [--rounds 20] [--json FILE] [--only monitor,devenv-oci,crun,runc] [--no-seccomp]

All get the same bundle: busybox `true`, Docker's namespaces, mounts, capabilities and system call filter. What differs
is how they are asked. `monitor` is how devenv runs its own services: one call each for create, start and delete of a
process that is there already. The others are programs, started once for each container: `run` makes, starts, waits for
and deletes one.

Absolute times say little on a shared machine: the ratios of one run are what counts, and so the runtimes take turns in
each round. As root, in namespaces of its own and a tmpfs. crun before 1.9 refuses machines with both versions of
cgroups, so cgroup v2 is hidden from all where v1 is there as well.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import glob
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from devenv.runtime import bundle, logs, monitor_client
from devenv.util import fs, paths
from tests.support import isolation

AT_ONCE = 8
MEMORY_CONTAINERS = 40
LOG_BYTES = 200_000_000
LOG_LINE = "x" * 99
PATIENCE = 120.0
PROJECT = "bench-12345678"
_UNIFIED = "/sys/fs/cgroup/unified"

Samples = dict[str, list[float]]


class Failure(Exception):
    """A peer can't do it here; why."""


class Place(NamedTuple):
    folder: str
    seccomp: bool

    def rootfs(self) -> str:
        return f"{self.folder}/rootfs"

    def config(self, *args: str, cgroup: str, **options: Any) -> dict[str, Any]:
        made = bundle.build(
            bundle.Options(
                args=args,
                rootfs=bundle.Rootfs(overlays=()),
                env=("PATH=/bin",),
                cgroup_path=cgroup,
                seccomp="default" if self.seccomp else None,
                **options,
            )
        )
        # Of what the older ones among them know nothing nothing is in it.
        made["ociVersion"] = "1.0.2"
        made["root"]["path"] = self.rootfs()
        return made


class Monitor:
    """devenv's own way: the calls of the supervisor to the monitor."""

    name = "monitor"

    def __init__(self, place: Place) -> None:
        self._place = place
        self._where = paths.Paths(f"{place.folder}/data", f"{place.folder}/run")
        self._monitor = monitor_client.ensure(self._where, PROJECT)
        self._count = 0

    def prepare(self, *args: str, record: dict[str, Any] | None = None, **options: Any) -> str:
        """What the supervisor writes before it calls: beside the runtime's work, and so not measured."""
        self._count += 1
        name = f"{self._count:064d}"
        folder = self._where.container(name)
        for part in ("upper", "work"):
            os.makedirs(f"{folder}/{part}")
        config = self._place.config(*args, cgroup=f"devenv/{PROJECT}/{name}", **options)
        overlay = bundle.Overlay("/", (self._place.rootfs(),), f"{folder}/upper", f"{folder}/work")
        config["annotations"][bundle.ROOTFS] = json.dumps({"overlays": [overlay._asdict()], "binds": []})
        config["root"]["path"] = "rootfs"
        fs.write_json(f"{folder}/config.json", config)
        fs.write_json(f"{folder}/container.json", {"id": name, "project_id": PROJECT, **(record or {})})
        return name

    def _await(self, event: str, *names: str) -> None:
        missing = set(names)
        while missing:
            for found in self._monitor.wait(PATIENCE):
                if found["event"] == event:
                    missing.discard(found["id"])

    def start(self, name: str) -> None:
        self._monitor.create(name)
        self._monitor.start(name)

    def forget(self, name: str) -> None:
        self._monitor.delete(name, force=True)
        shutil.rmtree(self._where.container(name))

    def run(self) -> Callable[[], None]:
        name = self.prepare("true")

        def work() -> None:
            self.start(name)
            self._await("exit", name)
            self._monitor.delete(name)

        return work

    def at_once(self) -> Callable[[], None]:
        names = [self.prepare("true") for _ in range(AT_ONCE)]

        def work() -> None:
            for name in names:
                self.start(name)
            self._await("exit", *names)
            for name in names:
                self._monitor.delete(name)

        return work

    @contextlib.contextmanager
    def executing(self) -> Iterator[Callable[[], None]]:
        name = self.prepare("sleep", "1000")
        self.start(name)
        null = os.open("/dev/null", os.O_RDWR)

        def work() -> None:
            self._monitor.exec(name, {"args": ["true"]}, (null, null, null))
            self._await("exec_exit", name)

        yield work
        os.close(null)
        self.forget(name)

    def memory(self, *, init: bool = False) -> float:
        """Private bytes a running container adds: in the monitor, and in what of devenv stays in the container."""
        # What earlier containers have left free in there would be counted as nothing.
        self._restart()
        pid = int(self._monitor.hello["pid"])
        names = [self.prepare("sleep", "1000", init=init) for _ in range(MEMORY_CONTAINERS + 1)]
        self.start(names[0])
        before = private(pid)
        for name in names[1:]:
            self.start(name)
        total = private(pid) - before
        if init:
            for name in names[1:]:
                total += private(int(self._monitor.containers()[name]["pid"]))
        for name in names:
            self.forget(name)
        return total / MEMORY_CONTAINERS

    def logging(self) -> Callable[[], None]:
        size = {"logging": {"max-size": "10g"}}
        name = self.prepare(*flood(), record=size)

        def work() -> None:
            self.start(name)
            self._await("exit", name)
            size = sum(os.path.getsize(entry) for entry in os.scandir(f"{self._where.container(name)}/logs"))
            last = list(logs.read(self._where.container(name), tail=1))
            self.forget(name)
            if size < LOG_BYTES or last[0].data != LOG_LINE.encode():
                raise Failure(f"only {size} bytes of output were kept")

        return work

    def _restart(self) -> None:
        self._monitor.shutdown()
        self._monitor.close()
        self._monitor = monitor_client.ensure(self._where, PROJECT)

    def close(self) -> None:
        for name in self._monitor.containers():
            self._monitor.delete(name, force=True)
        self._monitor.shutdown()
        self._monitor.close()


class Program:
    """A runtime that is a program: runc, crun or devenv-oci."""

    def __init__(self, place: Place, name: str, command: str) -> None:
        self.name = name
        self._count = 0
        self._place = place
        self._folder = f"{place.folder}/{name}"
        os.mkdir(self._folder)
        self._command = [command, "--root", f"{self._folder}/root"]

    def _call(self, *words: str) -> None:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failure((done.stderr or done.stdout).strip().splitlines()[-1])

    def prepare(self, *args: str, **options: Any) -> tuple[str, str]:
        self._count += 1
        name = f"{self.name}{self._count}"
        folder = f"{self._folder}/{name}"
        os.mkdir(folder)
        config = self._place.config(*args, cgroup=f"/{PROJECT}/{name}", **options)
        fs.write_json(f"{folder}/config.json", config)
        return name, folder

    def run(self) -> Callable[[], None]:
        name, folder = self.prepare("true")
        return lambda: self._call("run", "--bundle", folder, name)

    def at_once(self) -> Callable[[], None]:
        made = [self.prepare("true") for _ in range(AT_ONCE)]

        def work() -> None:
            running = [
                subprocess.Popen([*self._command, "run", "--bundle", folder, name], stdin=subprocess.DEVNULL)
                for name, folder in made
            ]
            if any(process.wait(PATIENCE) for process in running):
                raise Failure("one of several at once failed")

        return work

    @contextlib.contextmanager
    def started(self, *args: str) -> Iterator[str]:
        name, folder = self.prepare(*args)
        # Its streams stay with the container, so they are not ours to wait for.
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*self._command, "run", "--detach", "--bundle", folder, name], check=True, **silent)
        try:
            yield name
        finally:
            self._call("delete", "--force", name)

    @contextlib.contextmanager
    def executing(self) -> Iterator[Callable[[], None]]:
        with self.started("sleep", "1000") as name:
            yield lambda: self._call("exec", name, "true")

    def close(self) -> None:
        pass


class Conmon:
    """What podman has for a monitor: one process a container, which writes the same form of log."""

    name = "conmon"

    def __init__(self, place: Place, runtime: Program) -> None:
        self._runtime = runtime
        self._folder = f"{place.folder}/conmon"
        os.mkdir(self._folder)

    def _argv(self, name: str, folder: str) -> list[str]:
        argv = ["conmon", "--sync", "--api-version", "1", "-c", name, "-u", name, "-n", name, "-b", folder]
        argv += ["-r", self._runtime._command[0], "--runtime-arg", "--root", "--runtime-arg"]
        argv += [self._runtime._command[2], "-p", f"{folder}/pid", "-l", f"k8s-file:{folder}/log"]
        return [*argv, "--exit-dir", folder, "--full-attach"]

    def _begin(self, *args: str) -> tuple[subprocess.Popen[bytes], str, str]:
        name, folder = self._runtime.prepare(*args)
        reader, writer = os.pipe()
        conmon = subprocess.Popen(
            self._argv(name, folder),
            env=os.environ | {"_OCI_SYNCPIPE": str(writer)},
            pass_fds=(writer,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        answer = json.loads(os.read(reader, 4096))
        os.close(reader)
        if int(answer.get("data") or answer.get("pid") or -1) < 0:
            raise Failure(f"conmon: {answer.get('message')}")
        return conmon, name, folder

    def logging(self) -> Callable[[], None]:
        conmon, name, folder = self._begin(*flood())

        def work() -> None:
            self._runtime._call("start", name)
            conmon.wait(PATIENCE)
            self._runtime._call("delete", "--force", name)
            if os.path.getsize(f"{folder}/log") < LOG_BYTES:
                raise Failure("output was lost")
            os.unlink(f"{folder}/log")

        return work

    def memory(self) -> float:
        total = 0
        for _ in range(4):
            conmon, name, _folder = self._begin("sleep", "1000")
            self._runtime._call("start", name)
            total += private(conmon.pid)
            self._runtime._call("delete", "--force", name)
            conmon.wait(PATIENCE)
        return total / 4


class Floor:
    """No runtime: what the kernel and a program's start alone take."""

    name = "floor"

    def __init__(self, place: Place) -> None:
        self._place = place

    def run(self) -> Callable[[], None]:
        spaces = ("unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "true")
        return lambda: subprocess.run(spaces, check=True) and None

    def at_once(self) -> Callable[[], None]:
        one = self.run()
        return lambda: [one() for _ in range(AT_ONCE)] and None

    @contextlib.contextmanager
    def executing(self) -> Iterator[Callable[[], None]]:
        yield lambda: subprocess.run(["true"], check=True) and None

    def logging(self) -> Callable[[], None]:
        def work() -> None:
            words = ["/bin/busybox", *flood()]
            with open(f"{self._place.folder}/floor", "wb") as file:
                writer = subprocess.Popen(words, executable=shutil.which("busybox"), stdout=subprocess.PIPE)
                subprocess.run(["cat"], stdin=writer.stdout, stdout=file, check=True)
            writer.wait()
            os.unlink(f"{self._place.folder}/floor")

        return work

    def close(self) -> None:
        pass


def flood() -> tuple[str, ...]:
    return ("sh", "-c", f"yes {LOG_LINE} | head -c {LOG_BYTES}")


def private(pid: int) -> int:
    """Bytes that are this process' alone: what would be free if it weren't there."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        lines = [line.split() for line in file]
    return sum(int(line[1]) * 1024 for line in lines if line[0] in {"Private_Dirty:", "Private_Clean:"})


def timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(peers: list[Any], rounds: int) -> dict[str, Samples]:
    """Peer -> operation -> seconds. The peers take turns, so that a busy moment of the machine hits them alike."""
    results: dict[str, Samples] = {peer.name: {} for peer in peers}
    for operation in ("run", "at_once"):
        for number in range(rounds + 1):
            for peer in peers:
                taken = timed(getattr(peer, operation)())
                if number:  # the first round fills caches
                    results[peer.name].setdefault(operation, []).append(taken)
    with contextlib.ExitStack() as running:
        works = {peer.name: running.enter_context(peer.executing()) for peer in peers}
        for number in range(rounds + 1):
            for name, work in works.items():
                taken = timed(work)
                if number:
                    results[name].setdefault("exec", []).append(taken)
    return results


def small_root(folder: str) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("needs busybox: `apt install busybox-static`")
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
        os.makedirs(f"{folder}/{name}")
    shutil.copy(busybox, f"{folder}/bin/busybox")
    for name in ("sh", "sleep", "true", "yes", "head"):
        os.symlink("busybox", f"{folder}/bin/{name}")


def find_peers(place: Place, wanted: list[str]) -> list[Any]:
    commands = {name: shutil.which(name) for name in ("crun", "runc")}
    commands["devenv-oci"] = f"{os.path.dirname(sys.executable)}/devenv-oci"
    found: list[Any] = [Monitor(place)] if "monitor" in wanted else []
    for name in ("devenv-oci", "crun", "runc"):
        if name not in wanted:
            continue
        command = commands[name]
        if command is None:
            print(f"{name}: left out, it is not installed")
            continue
        peer = Program(place, name, command)
        try:
            peer.run()()
        except Failure as exc:
            print(f"{name}: left out, {exc}")
        else:
            found.append(peer)
    return [*found, Floor(place)]


def table(results: dict[str, Samples]) -> str:
    """Medians in milliseconds; in brackets, how many times crun's."""
    titles = {"run": "one container", "at_once": f"{AT_ONCE} at once, each", "exec": "exec"}
    yardstick = results.get("crun") or results.get("runc") or {}
    lines = [f"{'':18}" + "".join(f"{name:>20}" for name in results)]
    for operation, title in titles.items():
        cells = []
        for samples in results.values():
            share = AT_ONCE if operation == "at_once" else 1
            median = statistics.median(samples[operation]) / share
            ratio = ""
            if operation in yardstick:
                ratio = f"({median * share / statistics.median(yardstick[operation]):.2f})"
            cells.append(f"{f'{median * 1000:.1f} ms {ratio:>7}':>20}")
        lines.append(f"{title:18}" + "".join(cells))
    return "\n".join(lines)


def memory_and_logs(peers: list[Any], place: Place, rounds: int) -> Iterator[str]:
    """Lines of the report; the rest is measured when they are asked for."""
    named = {peer.name: peer for peer in peers}
    runtime = named.get("crun") or named.get("runc")
    conmon = Conmon(place, runtime) if runtime is not None and shutil.which("conmon") else None
    loggers = [each for each in (named.get("monitor"), conmon, named["floor"]) if each is not None]
    monitor = named.get("monitor")
    if monitor is not None:
        yield f"private memory for each running container: monitor {monitor.memory() / 1024:.0f} KiB,"
        yield f"  with `init: true` {monitor.memory(init=True) / 1024:.0f} KiB"
    if conmon is not None:
        yield f"  conmon {conmon.memory() / 1024:.0f} KiB"
    speeds: dict[str, list[float]] = {}
    for _ in range(max(1, rounds // 5)):
        for each in loggers:
            speeds.setdefault(each.name, []).append(LOG_BYTES / timed(each.logging()) / 1e6)
    if monitor is not None:
        peak = pathlib.Path(f"/proc/{monitor._monitor.hello['pid']}/status").read_text().split("VmHWM:")[1].split()[0]
        yield f"the monitor's memory at its highest: {int(peak) / 1024:.1f} MiB"
    for name, found in speeds.items():
        yield f"lines of 100 bytes: {name} {statistics.median(found):.0f} MB/s"


@contextlib.contextmanager
def surroundings(*, seccomp: bool) -> Iterator[Place]:
    session = isolation.enter()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", session.folder.encode(), b"tmpfs", 0, None) != 0:
        print("no tmpfs here: measuring on the disk", file=sys.stderr)
    if os.path.ismount(_UNIFIED):
        libc.umount2(_UNIFIED.encode(), 2)
    try:
        place = Place(session.folder, seccomp)
        small_root(place.rootfs())
        yield place
    finally:
        libc.umount2(session.folder.encode(), 2)
        isolation.leave(session)
        # Runtimes remove the container's cgroup and leave those above it to whoever made up the path.
        for folder in glob.glob(f"/sys/fs/cgroup/*/{PROJECT}"):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", metavar="FILE", help="write all samples, in seconds")
    parser.add_argument("--only", default="monitor,devenv-oci,crun,runc", metavar="NAMES")
    parser.add_argument("--no-seccomp", action="store_true", help="bundles without a filter of system calls")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench_runtime needs root", file=sys.stderr)
        return 2
    with surroundings(seccomp=not options.no_seccomp) as place:
        peers = find_peers(place, options.only.split(","))
        try:
            results = measure(peers, options.rounds)
            print(f"{options.rounds} rounds, medians, (times crun's)")
            print(f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}\n")
            print(table(results), end="\n\n")
            for line in memory_and_logs(peers, place, options.rounds):
                print(line)
        finally:
            for peer in peers:
                peer.close()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
