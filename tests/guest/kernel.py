"""A stock kernel with its modules: one that is installed here, or Debian's package unpacked beside `.venv`."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

PACKAGE = "linux-image-amd64"
# Where `fetch` puts what it has unpacked: it goes with `./dev clean`.
CACHE = pathlib.Path(sys.prefix, "guest-kernel")
# What the root folder is mounted with. All others are loaded by the guest itself.
_NEEDED = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_blk", "crc32c_generic", "ext4")
_WANTED_FOLDERS = (
    "arch",
    "block",
    "crypto",
    "drivers/block",
    "drivers/net",
    "drivers/virtio",
    "fs",
    "lib",
    "mm",
    "net",
)


class Kernel(NamedTuple):
    image: pathlib.Path
    modules: pathlib.Path  # …/lib/modules/VERSION

    @property
    def version(self) -> str:
        return self.modules.name

    def needed(self) -> list[pathlib.Path]:
        """The modules to begin with, each after those that it needs (modules.dep(5))."""
        below: dict[str, list[str]] = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, others = line.partition(":")
            # The last one named is the first to load.
            below[_module(path)] = [*reversed(others.split()), path]
        found: dict[str, None] = {}
        for name in _NEEDED:
            found.update(dict.fromkeys(below.get(name, ())))  # absent: built in
        return [self.modules / path for path in found]


def _module(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def find() -> Kernel | None:
    """A kernel that can be booted as it is; the newest where there are several."""
    given = os.environ.get("DEVENV_GUEST_KERNEL")
    found: list[Kernel] = []
    for top in [pathlib.Path(given)] if given else [pathlib.Path("/"), CACHE]:
        for image in sorted(top.glob("boot/vmlinuz-*")):
            modules = top / "lib/modules" / image.name.removeprefix("vmlinuz-")
            if (modules / "modules.dep").exists() and any(modules.rglob("9pnet_virtio.ko*")):
                found.append(Kernel(image, modules))
    return max(found, key=lambda each: _numbers(each.version), default=None)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def fetch() -> Kernel:
    """Debian's kernel through apt, unpacked into ``CACHE``; 70 MB, once. Raises ``RuntimeError`` with what failed."""
    depends = _run("apt-cache", "depends", "--important", PACKAGE)
    package = next(iter(re.findall(r"Depends: (linux-image-\S+)", depends)), None)
    if package is None:
        raise RuntimeError(f"apt knows no package `{PACKAGE}`")
    with tempfile.TemporaryDirectory(prefix="dvg-") as folder:
        _run("apt-get", "-qq", "download", package, cwd=folder)
        (archive,) = pathlib.Path(folder).glob("*.deb")
        staged = CACHE.with_name(f"{CACHE.name}.{os.getpid()}")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        version = package.removeprefix("linux-image-").removesuffix("-unsigned")
        members = [f"./boot/vmlinuz-{version}", f"./lib/modules/{version}/modules.*"]
        members += [f"./lib/modules/{version}/kernel/{name}/*" for name in _WANTED_FOLDERS]
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpacking:
            _run("tar", "-x", "-C", str(staged), "--wildcards", *members, stdin=unpacking.stdout)
        _run("busybox", "depmod", "-b", str(staged), version)
        shutil.rmtree(CACHE, ignore_errors=True)
        staged.rename(CACHE)
    found = find()
    if found is None:
        raise RuntimeError(f"`{package}` has no kernel that boots from 9p")
    return found


def _run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} …: {done.stderr.strip()[-500:]}")
    return str(done.stdout)
