"""Classic BPF as seccomp runs it: an interpreter with the kernel's own checks, written from its documentation."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

U32 = 0xFFFFFFFF


class Call(NamedTuple):
    """What a filter is shown of a system call: struct seccomp_data."""

    number: int
    architecture: int
    arguments: Sequence[int] = (0, 0, 0, 0, 0, 0)

    def pack(self) -> bytes:
        return struct.pack("<IIQ6Q", self.number, self.architecture, 0, *self.arguments)


class Program:
    def __init__(self, code: bytes) -> None:
        self.instructions = list(struct.iter_unpack("=HBBI", code))
        self._check()

    def _check(self) -> None:
        """net/core/filter.c, bpf_check_classic, and kernel/seccomp.c, seccomp_check_filter."""
        length = len(self.instructions)
        assert 0 < length <= 4096
        assert self.instructions[-1][0] == 0x06, "the last instruction returns"
        for at, (code, yes, no, k) in enumerate(self.instructions):
            assert code in {0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x45, 0x06}, f"{at}: {code:#x}"
            if code == 0x20:
                assert k in range(0, 64, 4)
            elif code == 0x05:
                assert at + 1 + k < length
            elif code & 7 == 5:
                assert at + 1 + max(yes, no) < length

    def run(self, call: Call) -> int:
        return self.trace(call)[0]

    def trace(self, call: Call) -> tuple[int, int]:
        """What it returns, and after how many instructions."""
        data = call.pack()
        result, steps = self._execute(lambda offset: int(struct.unpack_from("<I", data, offset)[0]))
        assert result is not None
        return result, steps

    def is_constant(self, number: int, architecture: int) -> bool:
        """kernel/seccomp.c, seccomp_is_const_allow: whether the kernel remembers that this number is allowed."""
        return self._execute({0: number, 4: architecture}.get)[0] == 0x7FFF0000

    def _execute(self, load: Callable[[int], int | None]) -> tuple[int | None, int]:
        """``load`` reads a word of ``struct seccomp_data``; None ends the run without a result."""
        a, at, steps = 0, 0, 0
        while True:
            code, yes, no, k = self.instructions[at]
            at += 1
            steps += 1
            if code == 0x06:
                return k, steps
            if code == 0x20:
                word = load(k)
                if word is None:
                    return None, steps
                a = word
            elif code == 0x54:
                a &= k
            elif code == 0x05:
                at += k
            else:
                taken = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[code]
                at += yes if taken else no


def edges(values: Iterable[int]) -> list[int]:
    """Each value, its neighbours, and each with something in the upper half."""
    found = {0, U32, 1 << 32, (1 << 64) - 1}
    for value in values:
        for near in (value - 1, value, value + 1, value ^ (1 << 32), value | 1 << 63, value & U32):
            if 0 <= near < 1 << 64:
                found.add(near)
    return sorted(found)
