"""The tables of numbers, against the kernel's headers where they are installed and against themselves."""

from __future__ import annotations

import pathlib
import re

import pytest

from devenv.linux import syscalls

ABIS = ("x86_64", "x32", "x86", "aarch64", "arm")
_HEADERS = pathlib.Path("/usr/include/x86_64-linux-gnu/asm")


@pytest.mark.parametrize("abi", ABIS)
def test_numbers_are_unique_and_well_known(abi: str) -> None:
    numbers = syscalls.numbers(abi)
    assert len(set(numbers.values())) == len(numbers) > 320
    assert numbers["statx"] == {"x86_64": 332, "x32": 332, "x86": 383, "aarch64": 291, "arm": 397}[abi]
    assert numbers["execve"] == {"x86_64": 59, "x32": 520, "x86": 11, "aarch64": 221, "arm": 11}[abi]
    assert numbers["openat2"] == 437
    assert numbers["removexattrat"] == 466
    assert ("clock_gettime64" in numbers) == (abi in {"x86", "arm"})


@pytest.mark.skipif(not (_HEADERS / "unistd_64.h").exists(), reason="the kernel's headers are not installed")
@pytest.mark.parametrize(
    ("abi", "header"), [("x86_64", "unistd_64.h"), ("x86", "unistd_32.h"), ("x32", "unistd_x32.h")]
)
def test_as_the_kernels_headers(abi: str, header: str) -> None:
    found = re.findall(r"#define __NR_(\w+) \(?(?:__X32_SYSCALL_BIT \+ )?(\d+)\)?", (_HEADERS / header).read_text())
    theirs = {name: int(number) for name, number in found}
    assert len(theirs) > 300
    ours = syscalls.numbers(abi)
    # Names that were dropped from newer headers, or not there yet in older ones, are no contradiction.
    assert {name: ours.get(name) for name in theirs if name in ours} == {
        name: number for name, number in theirs.items() if name in ours
    }
    assert len(set(theirs) - set(ours)) <= 2
