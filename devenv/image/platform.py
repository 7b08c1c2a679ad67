"""Which of an index's images this machine runs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from devenv import errors
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


def machine(text: str) -> str:
    """The machine, as uname(2) names it, that `linux/arm64/v8` or in short `arm64` is for. Raises ``ImageError``."""
    words = text.lower().split("/")
    system, name, *more = words if len(words) > 1 else ["linux", *words]
    variant = more[0] if more else ""
    name = _MACHINES[name][0] if name in _MACHINES else name
    if system != "linux" or len(more) > 1 or not name.isalnum():
        raise errors.ImageError(
            f"`{text[:100]}` is no platform that devenv runs", hint="write it like `linux/amd64` or `linux/arm64/v8`"
        )
    if name == "arm":
        return {"v8": "armv8l", "v6": "armv6l"}.get(variant, "armv7l")
    return next((machine for machine, (known, _) in _MACHINES.items() if known == name), name)


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
