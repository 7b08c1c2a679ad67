from __future__ import annotations

import pytest

from devenv import errors
from devenv.image import descriptor, platform


def entry(os: str, architecture: str, variant: str = "") -> descriptor.Descriptor:
    return descriptor.Descriptor(
        descriptor.OCI_MANIFEST, "sha256:" + "0" * 64, 1, descriptor.Platform(os, architecture, variant)
    )


ALL = [
    entry("unknown", "unknown"),
    entry("windows", "amd64"),
    entry("linux", "arm", "v5"),
    entry("linux", "arm", "v7"),
    entry("linux", "arm64", "v8"),
    entry("linux", "amd64"),
    entry("linux", "amd64", "v3"),
]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("x86_64", 5), ("aarch64", 4), ("armv7l", 3), ("armv6l", 2), ("riscv64", None), ("mips", None)],
)
def test_choice(machine: str, expected: int | None) -> None:
    assert platform.choose(ALL, machine) == (None if expected is None else ALL[expected])


def test_one_that_says_nothing_is_the_last_resort() -> None:
    silent = descriptor.Descriptor(descriptor.OCI_MANIFEST, "sha256:" + "1" * 64, 1)
    assert platform.choose([silent, *ALL], "x86_64") == ALL[5]
    assert platform.choose([*ALL, silent], "mips") == silent
    assert platform.choose([], "x86_64") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "x86_64"),
        ("amd64", "x86_64"),
        ("x86_64", "x86_64"),
        ("linux/amd64/v2", "x86_64"),
        ("linux/arm64", "aarch64"),
        ("linux/arm64/v8", "aarch64"),
        ("aarch64", "aarch64"),
        ("linux/arm/v7", "armv7l"),
        ("linux/arm/v6", "armv6l"),
        ("arm", "armv7l"),
        ("linux/386", "i686"),
        ("Linux/S390X", "s390x"),
        ("linux/loong64", "loongarch64"),
    ],
)
def test_platforms_by_name(text: str, expected: str) -> None:
    assert platform.machine(text) == expected


@pytest.mark.parametrize("text", ["", "windows/amd64", "linux/", "linux/a/b/c", "linux/a b", "/"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(errors.ImageError, match="is no platform"):
        platform.machine(text)
