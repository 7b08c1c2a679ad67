"""Ten services up, nothing to do, `ps`, `exec`, down: devenv beside its peers, in one run.

    ./dev bench [--rounds 5] [--json FILE] [--only devenv,podman]

Peers are measured where they are installed: docker compose on a dockerd that is started for this alone, and podman,
which has no project and gets ten `podman run`. All run the same commands on the same few files. The floor is what the
machine itself takes to make ten sets of namespaces by unshare(1), one after the other, or to start an interpreter.

Absolute times say little on a shared machine: the ratios of one run are what counts. As root, and in namespaces of its
own: nothing reaches the machine's network, and all files lie in a tmpfs.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.support import isolation

SERVICES = 10
CHAIN = 3  # s1 <- s2 <- s3 depend on each other, the others on nothing
# It ends at once when it is told to: how long `down` takes is then the engine's own doing.
COMMAND = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
OPERATIONS = ("up", "up again", "ps", "exec", "down")
PATIENCE = 120.0

Samples = dict[str, list[float]]


class Peer(Protocol):
    def operations(self) -> dict[str, Callable[[], None]]: ...


def run(argv: Sequence[str], *, cwd: str, env: dict[str, str]) -> None:
    done = subprocess.run(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stderr}")


def spec(image: str) -> str:
    """The project, in the grammar that both devenv and docker compose read."""
    services = {}
    for number in range(1, SERVICES + 1):
        service: dict[str, object] = {"image": image, "command": COMMAND}
        if 1 < number <= CHAIN:
            service["depends_on"] = [f"s{number - 1}"]
        services[f"s{number}"] = service
    return json.dumps({"services": services})


class Devenv:
    def __init__(self, folder: str) -> None:
        self._folder = f"{folder}/devenv"
        os.mkdir(self._folder)
        pathlib.Path(self._folder, "devenv.yaml").write_text(spec("host:"))
        self._env = os.environ | {
            "DEVENV_DATA_HOME": f"{self._folder}/.data",
            "DEVENV_RUNTIME_DIR": f"{self._folder}/.run",
        }
        self._command = f"{os.path.dirname(sys.executable)}/devenv"

    def _do(self, *words: str) -> Callable[[], None]:
        return lambda: run([self._command, *words], cwd=self._folder, env=self._env)

    def operations(self) -> dict[str, Callable[[], None]]:
        return {
            "up": self._do("up", "-d"),
            "up again": self._do("up", "-d"),
            "ps": self._do("ps"),
            "exec": self._do("exec", "-T", "s1", "true"),
            "down": self._do("down"),
        }

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._do("down", "-t", "0")()


class Compose:
    """docker compose, with a daemon that has its data, its socket and its bridges in this benchmark's own places."""

    def __init__(self, folder: str, root: str) -> None:
        self._folder = f"{folder}/compose"
        os.mkdir(self._folder)
        pathlib.Path(self._folder, "compose.yaml").write_text(spec("bench:latest"))
        socket = f"{self._folder}/docker.sock"
        self._env = os.environ | {"DOCKER_HOST": f"unix://{socket}"}
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        self._compose = ["docker", "compose"] if plugin else ["docker-compose"]
        daemon = ["dockerd", "--host", f"unix://{socket}", "--pidfile", f"{self._folder}/pid"]
        daemon += ["--data-root", f"{self._folder}/data", "--exec-root", f"{self._folder}/run"]
        with open(f"{self._folder}/log", "wb") as log:
            self._daemon = subprocess.Popen(daemon, stdout=log, stderr=log)
        try:
            self._wait(socket)
            archive = f"{self._folder}/root.tar"
            run(["tar", "-C", root, "-cf", archive, "."], cwd=self._folder, env=self._env)
            run(["docker", "import", archive, "bench:latest"], cwd=self._folder, env=self._env)
        except BaseException:
            self.close()
            raise

    def _wait(self, socket: str) -> None:
        end = time.monotonic() + 30
        while subprocess.run(["docker", "info"], env=self._env, capture_output=True).returncode != 0:
            if time.monotonic() > end or self._daemon.poll() is not None:
                log = pathlib.Path(self._folder, "log").read_text().splitlines()
                raise RuntimeError(f"dockerd does not start: {log[-1] if log else socket}")
            time.sleep(0.2)

    def _do(self, *words: str) -> Callable[[], None]:
        return lambda: run([*self._compose, *words], cwd=self._folder, env=self._env)

    def operations(self) -> dict[str, Callable[[], None]]:
        return {
            "up": self._do("up", "-d"),
            "up again": self._do("up", "-d"),
            "ps": self._do("ps"),
            "exec": self._do("exec", "-T", "s1", "true"),
            "down": self._do("down"),
        }

    def close(self) -> None:
        self._daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._daemon.wait(20)
        self._daemon.kill()
        self._daemon.wait()


class Podman:
    def __init__(self, folder: str, root: str) -> None:
        self._folder = f"{folder}/podman"
        os.mkdir(self._folder)
        self._root = root
        self._podman = ["podman", "--root", f"{self._folder}/root", "--runroot", f"{self._folder}/run"]
        self._podman += ["--cgroup-manager", "cgroupfs", "--network-config-dir", f"{self._folder}/net"]
        if shutil.which("runc"):
            # crun, its first choice, refuses machines with both versions of cgroups.
            self._podman += ["--runtime", "runc"]
        self._names = [f"s{number}" for number in range(1, SERVICES + 1)]
        # Its own limits are higher than what a machine without CAP_SYS_RESOURCE may set.
        self._options = ["--network", "bench", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]
        self._call("network", "create", "bench")

    def _call(self, *words: str) -> None:
        run([*self._podman, *words], cwd=self._folder, env=dict(os.environ))

    def _up(self) -> None:
        for name in self._names:
            self._call("run", "-d", "--name", name, *self._options, "--rootfs", f"{self._root}:O", *COMMAND)

    def operations(self) -> dict[str, Callable[[], None]]:
        return {
            "up": self._up,
            "ps": lambda: self._call("ps"),
            "exec": lambda: self._call("exec", "s1", "true"),
            "down": lambda: self._call("rm", "-f", "-t", "5", *self._names),
        }

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._call("rm", "-f", "-t", "0", "--all")


class Floor:
    """No engine: ten processes in namespaces of their own by unshare(1); the smallest program for the others."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def _do(self, *argv: str, times: int = 1) -> Callable[[], None]:
        def work() -> None:
            for _ in range(times):
                run(argv, cwd=self._folder, env=dict(os.environ))

        return work

    def operations(self) -> dict[str, Callable[[], None]]:
        spaces = ("unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "true")
        python = (sys.executable, "-I", "-S", "-c", "pass")
        return {
            "up": self._do(*spaces, times=SERVICES),
            "up again": self._do(*python),
            "ps": self._do(*python),
            "exec": self._do(*python),
        }


def small_root(folder: str) -> str:
    """A filesystem of one program, for the peers, which need an image: copying a machine's /usr would be unfair."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise RuntimeError("needs busybox: `apt install busybox-static`")
    root = f"{folder}/root"
    os.makedirs(f"{root}/bin")
    for name in ("proc", "sys", "dev", "etc", "tmp"):
        os.mkdir(f"{root}/{name}")
    shutil.copyfile(busybox, f"{root}/bin/busybox")
    os.chmod(f"{root}/bin/busybox", 0o755)
    for name in ("sh", "sleep", "true"):
        os.symlink("busybox", f"{root}/bin/{name}")
    return root


def measure(peer: Peer, rounds: int) -> Samples:
    operations = peer.operations()
    samples: Samples = {name: [] for name in operations}
    for number in range(rounds + 1):
        for name, operation in operations.items():
            begin = time.perf_counter()
            operation()
            # The first round makes caches, images and networks.
            if number:
                samples[name].append(time.perf_counter() - begin)
    return samples


@contextlib.contextmanager
def peers(folder: str, wanted: Sequence[str]) -> Iterator[dict[str, Peer]]:
    found: dict[str, Peer] = {}
    with contextlib.ExitStack() as ends:
        if "devenv" in wanted:
            found["devenv"] = ours = Devenv(folder)
            ends.callback(ours.close)
        root = small_root(folder)
        if "compose" in wanted and (reason := missing("dockerd", "docker")) is None:
            try:
                compose = Compose(folder, root)
            except RuntimeError as exc:
                reason = str(exc)
            else:
                ends.callback(compose.close)
                found["docker compose"] = compose
        if "compose" in wanted and reason:
            print(f"docker compose: left out, {reason}")
        if "podman" in wanted:
            if (reason := missing("podman")) is None:
                found["podman"] = podman = Podman(folder, root)
                ends.callback(podman.close)
            else:
                print(f"podman: left out, {reason}")
        found["floor"] = Floor(folder)
        yield found


def missing(*programs: str) -> str | None:
    lacking = [name for name in programs if shutil.which(name) is None]
    return f"{', '.join(lacking)} is not installed" if lacking else None


def table(results: dict[str, Samples]) -> str:
    """Medians in milliseconds, and in brackets how many times devenv's it is."""
    lines = [f"{'':10}" + "".join(f"{name:>24}" for name in results)]
    own = results.get("devenv", {})
    for operation in OPERATIONS:
        cells = []
        for name, samples in results.items():
            if operation not in samples:
                cells.append(f"{'-':>24}")
                continue
            median = statistics.median(samples[operation])
            ratio = f"({median / statistics.median(own[operation]):.2f})" if own and name != "devenv" else ""
            cells.append(f"{f'{median * 1000:.0f} ms {ratio:>8}':>24}")
        lines.append(f"{operation:10}" + "".join(cells))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write all samples, in seconds")
    parser.add_argument("--only", default="devenv,compose,podman", metavar="NAMES")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench_up needs root: the peers that it measures do", file=sys.stderr)
        return 2
    session = isolation.enter()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", session.folder.encode(), b"tmpfs", 0, None) != 0:
        print("no tmpfs here: measuring on the disk", file=sys.stderr)
    results: dict[str, Samples] = {}
    try:
        with peers(session.folder, options.only.split(",")) as found:
            for name, peer in found.items():
                try:
                    results[name] = measure(peer, options.rounds)
                except RuntimeError as exc:
                    if name == "devenv":
                        raise
                    print(f"{name}: left out, {exc}")
    finally:
        libc.umount2(session.folder.encode(), 2)
        isolation.leave(session)
    print(f"{SERVICES} services, {options.rounds} rounds, medians, (times devenv's)")
    print(f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}\n")
    print(table(results))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
