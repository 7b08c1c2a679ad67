"""Which of an index's images this machine runs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from devenv.image import descriptor

# uname(2) machine -> what images call it, the best variant first.
_MACHINES = {
    "x86_64": ("amd64", ("", "v1")),
    "aarch64": ("arm64", ("v8", "")),
    "armv8l": ("arm", ("v8", "v7", "v6", "v5", "")),
    "armv7l": ("arm", ("v7", "v6", "v5", "")),
    "armv6l": ("arm", ("v6", "v5", "")),
    "i686": ("386", ("",)),
    "i586": ("386", ("",)),
    "ppc64le": ("ppc64le", ("",)),
    "riscv64": ("riscv64", ("",)),
    "s390x": ("s390x", ("",)),
    "loongarch64": ("loong64", ("",)),
}


def architecture(machine: str | None = None) -> tuple[str, tuple[str, ...]]:
    machine = machine or os.uname().machine
    return _MACHINES.get(machine, (machine, ("",)))


def choose(candidates: Sequence[descriptor.Descriptor], machine: str | None = None) -> descriptor.Descriptor | None:
    """The best fit; one that says nothing about its platform fits, after those that say the right thing."""
    name, variants = architecture(machine)
    ranked = []
    for position, candidate in enumerate(candidates):
        platform = candidate.platform
        if platform is None or not (platform.os or platform.architecture):
            ranked.append((len(variants), position))
        elif platform.os == "linux" and platform.architecture == name and platform.variant in variants:
            ranked.append((variants.index(platform.variant), position))
    return candidates[min(ranked)[1]] if ranked else None
