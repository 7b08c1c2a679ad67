"""Whether this machine can run programs of another processor: by itself, or by an emulator in binfmt_misc."""

from __future__ import annotations

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
    try:
        with open(f"{folder}/qemu-{_QEMU.get(target.architecture, target.architecture)}", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags:")), "")
    # F: the emulator was opened when it was registered, so that it is there in a container, too.
    return lines[:1] == ["enabled"] and "F" in flags
