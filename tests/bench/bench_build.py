"""A project of several stages built cold, with a file changed, with nothing changed, and a context of 20,000 files:
devenv beside buildah, in one run.

    ./dev bench [--rounds 3] [--files 20000] [--only cold,changed]

Both build the same Dockerfiles upon the same busybox, as root, in namespaces of their own and in a tmpfs. buildah runs
steps by chroot, which is quicker than a container and needs no other runtime; in devenv each is a container, without a
network. Whole commands are measured: devenv's alone, and as it is in a project that is up (`warm`).

    cold       two stages of half a second of sleep each, two of copying, and one that joins them
    changed    one source file is another one
    nothing    all is as it was
    many       COPY of a folder of many small files, cold; and again with nothing changed (`many again`)
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests import ocilayout
from tests.support import isolation

OPERATIONS = ("cold", "changed", "nothing", "many", "many again")
STAGES = """\
FROM {base} AS one
RUN --network=none sleep 0.5; echo 1 >/one
FROM {base} AS two
RUN --network=none sleep 0.5; echo 2 >/two
FROM {base} AS source
WORKDIR /src
COPY src .
RUN --network=none cat * >/all
FROM {base}
COPY --from=one /one /one
COPY --from=two /two /two
COPY --from=source /all /all
RUN --network=none cat /one /two /all >/joined
"""
MANY = "FROM {base}\nCOPY many /many\n"
PATIENCE = 600.0


class Peer:
    def __init__(self, folder: pathlib.Path, project: pathlib.Path, base: pathlib.Path) -> None:
        self.folder, self.project, self.base = folder, project, base
        folder.mkdir()

    def begin(self) -> None:
        """Nothing is there but the base."""
        raise NotImplementedError

    def build(self, dockerfile: str) -> None:
        raise NotImplementedError

    def end(self) -> None:
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def run(self, *words: str) -> None:
        done = subprocess.run(
            words,
            cwd=self.project,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")

    def environment(self) -> dict[str, str]:
        return {**os.environ, "LANG": "C.UTF-8"}


class Devenv(Peer):
    warm = False
    program = str(pathlib.Path(sys.executable).with_name("devenv"))

    def environment(self) -> dict[str, str]:
        more = {"DEVENV_DATA_HOME": f"{self.folder}/data", "DEVENV_RUNTIME_DIR": f"{self.folder}/run"}
        return {**super().environment(), **more}

    def begin(self) -> None:
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        (self.project / "devenv.yaml").write_text(
            "services: {rest: {image: base, command: [sleep, '1000'], stop_signal: SIGKILL}}\n"
        )
        self.run(self.program, "image", "import", str(self.base), "base")
        if self.warm:
            self.run(self.program, "up", "-d")

    def write(self, name: str, text: str) -> None:
        (self.project / name).write_text(text.format(base="base"))

    def build(self, dockerfile: str) -> None:
        self.run(self.program, "image", "build", "-q", "-f", dockerfile, "-t", dockerfile.lower(), ".")

    def end(self) -> None:
        if self.warm:
            self.run(self.program, "down")


class Warm(Devenv):
    warm = True


class Buildah(Peer):
    def words(self) -> list[str]:
        data = f"{self.folder}/data"
        return ["buildah", "--root", data, "--runroot", f"{self.folder}/run", "--storage-driver", "overlay"]

    def begin(self) -> None:
        self.run(*self.words(), "rmi", "-a", "-f")
        (self.base.parent / "Base").write_text(f"FROM scratch\nADD {self.base.name} /\nENV PATH=/bin\n")
        words = ["build", "-q", "--isolation", "chroot", "-t", "localhost/base", "-f", str(self.base.parent / "Base")]
        self.run(*self.words(), *words, str(self.base.parent))

    def write(self, name: str, text: str) -> None:
        plain = text.replace("--network=none ", "")
        (self.project / name).write_text(plain.format(base="localhost/base"))

    def build(self, dockerfile: str) -> None:
        how = ["--layers", "--pull-never", "--isolation", "chroot"]
        self.run(*self.words(), "build", "-q", *how, "-f", dockerfile, "-t", dockerfile.lower(), ".")


def measure(peer: Devenv | Buildah, wanted: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}

    def timed(name: str, body: Callable[[], None]) -> None:
        began = time.monotonic()
        body()
        found[name] = time.monotonic() - began

    peer.begin()
    try:
        peer.write("Stages", STAGES)
        peer.write("Many", MANY)
        (peer.project / "src" / "a").write_text("one\n")
        if {"cold", "changed", "nothing"} & set(wanted):
            timed("cold", lambda: peer.build("Stages"))
            (peer.project / "src" / "a").write_text("another\n")
            timed("changed", lambda: peer.build("Stages"))
            timed("nothing", lambda: peer.build("Stages"))
        if {"many", "many again"} & set(wanted):
            timed("many", lambda: peer.build("Many"))
            timed("many again", lambda: peer.build("Many"))
    finally:
        peer.end()
    return found


def prepare(folder: pathlib.Path, files: int) -> pathlib.Path:
    (folder / "src").mkdir(parents=True)
    for name in "abc":
        (folder / "src" / name).write_text(f"{name}\n")
    (folder / ".dockerignore").write_text("devenv.yaml\nStages\nMany\n")
    for number in range(files):
        path = folder / "many" / f"d{number // 100}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 100)
    return folder


def busybox(folder: pathlib.Path) -> pathlib.Path:
    """An archive of a root filesystem, alone in its folder."""
    folder.mkdir()
    with tarfile.open(folder / "base.tar", "w") as archive:
        archive.add(ocilayout.BUSYBOX, "bin/busybox")
        for name in ("sh", "sleep", "cat", "echo"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return folder / "base.tar"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--only", default=",".join(OPERATIONS), help="operations, by commas")
    parser.add_argument("--json", metavar="FILE", help="write all samples, in seconds")
    given = parser.parse_args()
    wanted = [name for name in OPERATIONS if name in given.only.split(",")]
    if os.geteuid() != 0 or shutil.which("buildah") is None:
        print("bench_build needs root and buildah", file=sys.stderr)
        return 2
    session = isolation.enter()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", session.folder.encode(), b"tmpfs", 0, None) != 0:
        print("no tmpfs here: measuring on the disk", file=sys.stderr)
    try:
        folder = pathlib.Path(session.folder)
        base = busybox(folder / "base")
        kinds: dict[str, type[Devenv] | type[Buildah]] = {"devenv": Devenv, "warm": Warm, "buildah": Buildah}
        peers = {
            name: kind(folder / name, prepare(folder / f"{name}-p", given.files), base) for name, kind in kinds.items()
        }
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
        for _ in range(given.rounds):
            for name, peer in peers.items():
                samples[name].append(measure(peer, wanted))
        show(samples, wanted)
        if given.json:
            pathlib.Path(given.json).write_text(json.dumps(samples))
    finally:
        libc.umount2(session.folder.encode(), 2)
        isolation.leave(session)
    return 0


def show(samples: dict[str, list[dict[str, float]]], wanted: list[str]) -> None:
    print(f"{'seconds, medians':18}" + "".join(f"{name:>10}" for name in samples) + "     ratio      warm")
    for operation in wanted:
        medians = {name: statistics.median(each[operation] for each in found) for name, found in samples.items()}
        row = "".join(f"{value:10.3f}" for value in medians.values())
        ratios = "".join(f"{medians[name] / medians['buildah']:10.2f}" for name in ("devenv", "warm"))
        print(f"{operation:18}{row}{ratios}")


if __name__ == "__main__":
    raise SystemExit(main())
