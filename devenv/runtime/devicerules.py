"""Which devices a container may use: ``linux.resources.devices`` as cgroup v1 takes it and as a BPF program for v2.

Nothing is allowed at first (GHSA-g54h-m393-cpwq: an empty list is no permission), then the rules act in their order,
and the devices that every container has are allowed at the end. Pure.

On v1 the kernel keeps the account: a default, and exceptions to it. On v2 it asks a program at every open and mknod, so
the account is kept here, the same way (kernel: security/device_cgroup.c), and the program is made from it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

# c 1:3 null, 1:5 zero, 1:7 full, 1:8 random, 1:9 urandom, 5:0 tty, 5:1 console, 5:2 ptmx, 136:* pts; mknod of any.
_NODES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
# Docker lets containers have tuntap besides.
TUNTAP = (10, 200)
_ACCESS = {"m": 1, "r": 2, "w": 4}  # as in BPF_DEVCG_ACC_*
_KINDS = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*


class Rule(NamedTuple):
    allow: bool
    kind: str  # a, b, c
    major: int | None  # None for any
    minor: int | None
    access: str

    @property
    def everything(self) -> bool:
        return self.kind == "a" and self.major is None and self.minor is None

    def v1(self) -> tuple[str, str]:
        """The file and what to write into it."""
        file = "devices.allow" if self.allow else "devices.deny"
        if self.everything:
            return file, "a"
        major, minor = ("*" if number is None else str(number) for number in (self.major, self.minor))
        return file, f"{self.kind} {major}:{minor} {self.access}"


def defaults() -> list[Rule]:
    found = [Rule(True, kind, None, None, "m") for kind in "cb"]
    return found + [Rule(True, "c", major, minor, "rwm") for major, minor in (*_NODES, TUNTAP)]


def rules(given: Iterable[dict[str, Any]]) -> list[Rule]:
    """The whole list for one container. Raises ``ValueError`` for a rule that means nothing."""
    found = [Rule(False, "a", None, None, "rwm")]
    for entry in given:
        kind = entry.get("type") or "a"
        access = entry.get("access") or "rwm"
        if kind not in {"a", "b", "c", "u", "p"} or not set(access) <= set("rwm"):
            raise ValueError(f"`{kind} {access}` is no rule for devices")
        numbers = [None if (value := entry.get(name)) is None or value < 0 else value for name in ("major", "minor")]
        wanted = Rule(bool(entry.get("allow")), {"u": "c", "p": "c"}.get(kind, kind), numbers[0], numbers[1], access)
        if wanted.kind == "a" and not wanted.everything:
            found += [wanted._replace(kind=each) for each in "bc"]
        else:
            found.append(wanted)
    # To the default of "all allowed", more exceptions would be noise.
    if found[-1].everything and found[-1].allow:
        return found
    return found + defaults()


def settle(listed: Iterable[Rule]) -> tuple[bool, dict[tuple[str, int | None, int | None], int]]:
    """The default, and what differs from it: (kind, major, minor) -> mask of accesses."""
    allowed = False
    exceptions: dict[tuple[str, int | None, int | None], int] = {}
    for rule in listed:
        mask = sum(_ACCESS[letter] for letter in set(rule.access))
        if rule.everything:
            allowed, exceptions = rule.allow, {}
            continue
        key = (rule.kind, rule.major, rule.minor)
        if rule.allow != allowed:
            exceptions[key] = exceptions.get(key, 0) | mask
        elif key in exceptions:
            exceptions[key] &= ~mask
    return allowed, {key: mask for key, mask in exceptions.items() if mask}


_INSTRUCTION = struct.Struct("<BBhi")
_R0, _R1, _R2, _R3, _R4, _R5 = range(6)


def _code(opcode: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    # A 32-bit immediate is signed in the structure.
    value &= 0xFFFFFFFF
    return _INSTRUCTION.pack(opcode, source << 4 | target, offset, value - (1 << 32) if value >> 31 else value)


def program(listed: Iterable[Rule]) -> bytes:
    """The instructions of a BPF_PROG_TYPE_CGROUP_DEVICE program: 1 lets the access pass."""
    allowed, exceptions = settle(listed)
    # struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor
    lines = [
        _code(0x61, _R2, _R1, 0),  # r2 = access_type
        _code(0xBC, _R3, _R2),  # w3 = w2
        _code(0x54, _R2, 0, 0, 0xFFFF),  # w2 &= 0xffff: the type
        _code(0x74, _R3, 0, 0, 16),  # w3 >>= 16: the accesses
        _code(0x61, _R4, _R1, 4),  # r4 = major
        _code(0x61, _R5, _R1, 8),  # r5 = minor
    ]
    for (kind, major, minor), mask in exceptions.items():
        lines += _exception(kind, major, minor, mask, allow=not allowed)
    lines += _answer(allow=allowed)
    return b"".join(lines)


def _answer(*, allow: bool) -> list[bytes]:
    return [_code(0xB4, _R0, 0, 0, int(allow)), _code(0x95)]


def _exception(kind: str, major: int | None, minor: int | None, mask: int, *, allow: bool) -> list[bytes]:
    tests: list[tuple[int, int]] = [(_R2, _KINDS[kind])]
    tests += [(_R4, major)] if major is not None else []
    tests += [(_R5, minor)] if minor is not None else []
    if allow:
        # Allowed when nothing is asked for beyond the exception.
        access = [_code(0xBC, _R1, _R3), _code(0x54, _R1, 0, 0, ~mask & 7)]
    else:
        # Refused when anything of the exception is asked for: the jump below is taken when there is none.
        access = [_code(0xBC, _R1, _R3), _code(0x54, _R1, 0, 0, mask)]
    jump = 0x56 if allow else 0x16  # jne32, jeq32
    body = [*access, _code(jump, _R1, 0, 2, 0), *_answer(allow=allow)]
    lines = []
    for position, (register, number) in enumerate(tests):
        lines.append(_code(0x56, register, 0, len(tests) - position - 1 + len(body), number))
    return lines + body
