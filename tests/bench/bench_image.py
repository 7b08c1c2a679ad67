"""Unpacking, loading and verifying images: devenv beside skopeo with umoci, podman, and `tar` and `sha256sum`.

    ./dev bench [--rounds 3] [--json FILE] [--only real,many]

Two images, made of this machine's own files: `real` has 320 MB of its /usr, as a Debian-based image does; `many` has
50,000 files of a kilobyte or two. Every round has fresh folders in a tmpfs: ext4 is five times slower where thousands
of files were just deleted. What devenv does is measured in a process of its own, its start included, as for the peers.

    unpack        a layout with one gzip layer         umoci unpack       tar -xz
    unpack plain  the same, not compressed             umoci unpack       tar -x
    load          what docker save writes, ready to run    skopeo copy and umoci unpack, podman load
    verify        every blob of the store              -                  sha256sum
    again         the image when it is there           -
    pull          from a docker-registry on loopback, ready to run    skopeo copy and umoci unpack, podman pull
    pull again    when all of it is there              podman pull
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gzip
import json
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests import ocilayout
from tests.support import distribution, isolation

REAL_SIZE = 320 << 20
LARGEST = 30 << 20
MANY_FILES = 50_000
PATIENCE = 900.0
# What belongs to no container image, or not to every machine.
LEFT_OUT = ("/usr/src", "/usr/local", "/usr/lib/modules", "/usr/lib/firmware")

Sample = tuple[float, float]  # seconds on the clock, and of the processors
Samples = dict[str, dict[str, list[Sample]]]

RESOLVE = """
import sys
from devenv.image import store
from devenv.util import paths
where = paths.Paths(sys.argv[1], sys.argv[1])
paths.prepare(where)
images = store.ImageStore(where)
images.resolve(sys.argv[2], base="/")
"""
LOAD = """
import sys
from devenv.image import loading, store
from devenv.util import paths
where = paths.Paths(sys.argv[1], sys.argv[1])
paths.prepare(where)
[loaded] = loading.load(where, sys.argv[2], what="x")
store.ImageStore(where).resolve(loaded.tags[0], base="/")
"""
PULL = """
import os, sys
from devenv.image import pull, store
from devenv.image.registry import client
from devenv.util import paths
where = paths.Paths(sys.argv[1], sys.argv[1])
paths.prepare(where)
images = store.ImageStore(where)
pull.Puller(where, images, client.Client(os.environ)).pull(sys.argv[2])
images.resolve(sys.argv[2], base="/")
"""
VERIFY = """
import sys
from devenv.image import blobs
from devenv.util import paths
assert blobs.BlobStore(paths.Paths(sys.argv[1], sys.argv[1])).verify() == []
"""


def run(*argv: str) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)[:200]}: exit code {done.returncode}\n{done.stderr[-2000:]}")


def python(program: str, *arguments: str) -> None:
    run(
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parents[2])!r})\n{program}",
        *arguments,
    )


# -- images -----------------------------------------------------------------------------------------------------------


def real_stream(folder: str) -> str:
    """A layer of this machine's own files, a third of them programs and libraries, as far as REAL_SIZE goes."""
    names, size = [], 0
    for top in ("/usr/bin", "/usr/lib", "/usr/share"):
        limit = size + REAL_SIZE // 3
        for parent, folders, files in os.walk(top):
            folders[:] = sorted(each for each in folders if f"{parent}/{each}" not in LEFT_OUT)
            names.append(parent)
            for name in sorted(files):
                path = f"{parent}/{name}"
                if (more := os.lstat(path).st_size) > LARGEST or size > limit:
                    continue
                size += more
                names.append(path)
            if size > limit:
                break
    pathlib.Path(f"{folder}/names").write_text("\0".join(names))
    listed = ["--no-recursion", "--null", "-T", f"{folder}/names"]
    run("tar", "-C", "/", "--xattrs", *listed, "-cPf", f"{folder}/layer.tar", "--transform", "s,^/,,S")
    return f"{folder}/layer.tar"


def many_stream(folder: str) -> str:
    os.mkdir(f"{folder}/files")
    for number in range(MANY_FILES // 100):
        os.mkdir(f"{folder}/files/{number}")
        for name in range(100):
            pathlib.Path(f"{folder}/files/{number}/{name}").write_bytes(b"text\n" * ((number * name) % 600))
    run("tar", "-C", f"{folder}/files", "-cf", f"{folder}/layer.tar", ".")
    shutil.rmtree(f"{folder}/files")
    return f"{folder}/layer.tar"


class Case:
    """One image in every form it is measured in."""

    def __init__(self, name: str, folder: str) -> None:
        self.name = name
        self.folder = folder
        os.mkdir(folder)
        self.stream = (real_stream if name == "real" else many_stream)(folder)
        data = pathlib.Path(self.stream).read_bytes()
        self.size, self.entries = len(data), int(subprocess.check_output(f"tar -tf {self.stream} | wc -l", shell=True))
        packed = gzip.compress(data, 6, mtime=0)
        pathlib.Path(f"{folder}/layer.tar.gz").write_bytes(packed)
        for kind, blob in (("gzip", packed), ("plain", data)):
            self._layout(f"{folder}/{kind}", blob, kind, ocilayout.digest(data))
        if shutil.which("skopeo"):
            run(
                "skopeo", "copy", f"oci:{folder}/gzip:latest", f"docker-archive:{folder}/docker.tar:bench.test/x:latest"
            )

    def _layout(self, path: str, blob: bytes, kind: str, diff_id: str) -> None:
        writer = ocilayout.Writer(path)
        media = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if kind == "gzip" else "")
        config = {
            "architecture": ocilayout.architecture(),
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
        manifest = {
            "schemaVersion": 2,
            "config": writer.json(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [writer.blob(blob, media)],
        }
        named = {"org.opencontainers.image.ref.name": "latest"}
        writer.index([writer.json(manifest, "application/vnd.oci.image.manifest.v1+json", annotations=named)])


# -- what is measured -------------------------------------------------------------------------------------------------


def pulling(case: Case, fresh: Callable[[], str], host: str) -> dict[str, dict[str, Callable[[], None]]]:
    at, name = case.folder, f"{host}/bench/{case.name}:1"
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{at}/gzip:latest", f"docker://{name}")

    def skopeo() -> None:
        folder = fresh()
        run("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{folder}/layout:latest")
        run("umoci", "unpack", "--image", f"{folder}/layout:latest", f"{folder}/bundle")

    def podman(folder: str) -> None:
        places = ["--root", f"{folder}/s", "--runroot", f"{folder}/r", "--storage-driver", "overlay"]
        run("podman", *places, "pull", "--tls-verify=false", name)
        subprocess.run(["umount", "-lq", f"{folder}/s/overlay"], capture_output=True)

    kept = f"{at}/kept-podman"
    os.mkdir(kept)
    if shutil.which("podman"):
        podman(kept)
    python(PULL, f"{at}/kept", name)
    return {
        "pull": {
            "devenv": lambda: python(PULL, fresh(), name),
            "skopeo+umoci": skopeo,
            "podman": lambda: podman(fresh()),
        },
        "pull again": {"devenv": lambda: python(PULL, f"{at}/kept", name), "podman": lambda: podman(kept)},
    }


def operations(case: Case, fresh: Callable[[], str]) -> dict[str, dict[str, Callable[[], None]]]:
    """Operation -> who -> what to do. ``fresh`` gives an empty folder that is thrown away afterwards."""
    at = case.folder

    def umoci(layout: str, folder: str) -> None:
        run("umoci", "unpack", "--image", f"{layout}:latest", f"{folder}/bundle")

    def skopeo() -> None:
        folder = fresh()
        run("skopeo", "copy", f"docker-archive:{at}/docker.tar", f"oci:{folder}/layout:latest")
        umoci(f"{folder}/layout", folder)

    def podman() -> None:
        folder = fresh()
        places = ["--root", f"{folder}/s", "--runroot", f"{folder}/r", "--storage-driver", "overlay"]
        run("podman", *places, "load", "-i", f"{at}/docker.tar")
        subprocess.run(["umount", "-lq", f"{folder}/s/overlay"], capture_output=True)

    def tar(archive: str) -> None:
        run("tar", "-C", fresh(), "--xattrs", "--xattrs-include=*", "-xf", archive)

    python(RESOLVE, f"{at}/kept", f"oci:{at}/gzip:latest")
    python(LOAD, f"{at}/kept", f"{at}/docker.tar")
    blobs = [str(path) for path in pathlib.Path(f"{at}/kept/blobs/sha256").iterdir()]
    return {
        "unpack": {
            "devenv": lambda: python(RESOLVE, fresh(), f"oci:{at}/gzip:latest"),
            "umoci": lambda: umoci(f"{at}/gzip", fresh()),
            "tar": lambda: tar(f"{at}/layer.tar.gz"),
        },
        "unpack plain": {
            "devenv": lambda: python(RESOLVE, fresh(), f"oci:{at}/plain:latest"),
            "umoci": lambda: umoci(f"{at}/plain", fresh()),
            "tar": lambda: tar(f"{at}/layer.tar"),
        },
        "load": {
            "devenv": lambda: python(LOAD, fresh(), f"{at}/docker.tar"),
            "skopeo+umoci": skopeo,
            "podman": podman,
        },
        "verify": {
            "devenv": lambda: python(VERIFY, f"{at}/kept"),
            "sha256sum": lambda: run("sha256sum", *blobs),
        },
        "again": {"devenv": lambda: python(RESOLVE, f"{at}/kept", f"oci:{at}/gzip:latest")},
    }


def measure(case: Case, folder: str, rounds: int, host: str | None) -> Samples:
    """The contenders take turns, so that what else the machine does meets all of them."""
    made: list[str] = []

    def fresh() -> str:
        made.append(f"{folder}/fresh-{time.monotonic_ns()}")
        os.mkdir(made[-1])
        return made[-1]

    samples: Samples = {}
    wanted = operations(case, fresh)
    if host is not None:
        wanted |= pulling(case, fresh, host)
    for operation, contenders in wanted.items():
        samples[operation] = {}
        for number in range(rounds):
            print(f"  {operation} {number + 1} of {rounds}", end="\r", file=sys.stderr, flush=True)
            for who, work in contenders.items():
                if who not in {"devenv"} and any(shutil.which(each) is None for each in who.split("+")):
                    continue
                begin = time.perf_counter(), computed()
                try:
                    work()
                except RuntimeError as exc:
                    if who == "devenv":
                        raise
                    print(f"{who}: left out of {operation}, {str(exc).splitlines()[-1][:200]}")
                    break
                finally:
                    spent = time.perf_counter() - begin[0], computed() - begin[1]
                    while made:
                        shutil.rmtree(made.pop(), ignore_errors=True)
                samples[operation].setdefault(who, []).append(spent)
    return samples


def computed() -> float:
    """By all children so far, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(samples: Samples) -> str:
    lines = [f"  {'':14}{'':14}{'ms':>8}{'computing':>12}{'devenv takes':>14}{'of the computing':>18}"]
    for operation, found in samples.items():
        own = [statistics.median(column) for column in zip(*found["devenv"], strict=True)]
        for who, times in found.items():
            clock, cpu = (statistics.median(column) for column in zip(*times, strict=True))
            ratios = "" if who == "devenv" else f"{own[0] / clock:>14.2f}{own[1] / cpu:>18.2f}"
            lines.append(f"  {operation:14}{who:14}{clock * 1000:>8.0f}{cpu * 1000:>12.0f}{ratios}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write all samples, in seconds")
    parser.add_argument("--only", default="real,many", metavar="NAMES")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench_image needs root: owners and devices are unpacked", file=sys.stderr)
        return 2
    session = isolation.enter()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", session.folder.encode(), b"tmpfs", 0, b"size=90%") != 0:
        print("no tmpfs here: measuring on the disk", file=sys.stderr)
    results: dict[str, Samples] = {}
    print(f"Linux {platform.release()}, {os.cpu_count()} processors, Python {platform.python_version()}, medians\n")
    try:
        for name in options.only.split(","):
            if name not in {"real", "many"}:  # another benchmark's
                continue
            case = Case(name, f"{session.folder}/{name}")
            print(f"{name}: {case.size >> 20} MB, {case.entries} entries, {options.rounds} rounds")
            with contextlib.ExitStack() as ends:
                host = None
                if distribution.program() is not None and shutil.which("skopeo") is not None:
                    host = ends.enter_context(distribution.running(pathlib.Path(case.folder)))
                results[name] = measure(case, session.folder, options.rounds, host)
            print(table(results[name]), flush=True)
            shutil.rmtree(case.folder)
    finally:
        libc.umount2(session.folder.encode(), 2)
        isolation.leave(session)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
