"""Whether this machine can run programs of another processor: by itself, or by an emulator in binfmt_misc."""

from __future__ import annotations

import os

from devenv.image import descriptor

BINFMT = "/proc/sys/fs/binfmt_misc"
# What a processor runs besides its own.
_ALSO = {"amd64": {"386"}, "arm64": {"arm"}}
# qemu's names, which all packages register.
_QEMU = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "386": "i386",
    "arm": "arm",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "loong64": "loongarch64",
}


def runs(target: descriptor.Platform, own: descriptor.Platform, *, folder: str = BINFMT) -> bool:
    if target.architecture == own.architecture or target.architecture in _ALSO.get(own.architecture, ()):
        return True
    return _state(f"{folder}/qemu-{_QEMU.get(target.architecture, target.architecture)}") is True


def registered(folder: str = BINFMT) -> dict[str, bool]:
    """qemu's that are switched on, by name, and whether each is there in containers, too."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith("qemu-"))
    except OSError:
        return {}
    return {name: state for name in names if (state := _state(f"{folder}/{name}")) is not None}


def _state(path: str) -> bool | None:
    """None where there is none or it is switched off."""
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    if lines[:1] != ["enabled"]:
        return None
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags:")), "")
    # F: the emulator was opened when it was registered, so that it is there in a container, too.
    return "F" in flags
