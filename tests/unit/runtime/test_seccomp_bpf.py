"""Compiled programs, run on an interpreter: each decision against one made without compiling, and libseccomp's."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from devenv import errors
from devenv.linux import syscalls
from devenv.runtime import seccomp_bpf, seccomp_rules
from tests.support import bpf, libseccomp

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0
X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
BIT = syscalls.X32_SYSCALL_BIT


def compiled(architecture: str = "x86_64", **fields: Any) -> bpf.Program:
    fields.setdefault("defaultAction", "SCMP_ACT_ERRNO")
    return bpf.Program(seccomp_bpf.compile_policy(seccomp_rules.read(fields, architecture=architecture)))


def allow(*names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **more}


def argument(operator: str, value: int, other: int = 0, index: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": other}


def holds(operator: str, given: int, value: int, other: int) -> bool:
    return {
        "NE": given != value,
        "LT": given < value,
        "LE": given <= value,
        "EQ": given == value,
        "GE": given >= value,
        "GT": given > value,
        "MASKED_EQ": given & value == other & value,
    }[operator]


@pytest.mark.parametrize("operator", ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
@pytest.mark.parametrize("value", [0, 1, 38, 0x7E020000, bpf.U32, 1 << 32, (5 << 32) | 7, 1 << 63, (1 << 64) - 1])
def test_operators_on_64_bits(operator: str, value: int) -> None:
    for other in (0, value, 7, 5 << 32) if operator == "MASKED_EQ" else (0,):
        rule = allow("read", args=[argument(operator, value, other, index=2)])
        program = compiled(architectures=["SCMP_ARCH_X86_64"], syscalls=[rule])
        for given in bpf.edges([value, other, 39]):
            got = program.run(bpf.Call(0, X86_64, (0, 0, given, 0, 0, 0)))
            assert got == (ALLOW if holds(operator, given, value, other) else EPERM), f"{given:#x}"


@pytest.mark.parametrize("operator", ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
def test_32_bit_abis_compare_the_lower_half(operator: str) -> None:
    """Their arguments have no other; x32 truncates like its own C types do."""
    rule = allow("read", args=[argument(operator, 38, 6)])
    program = compiled(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32"], syscalls=[rule])
    for given in bpf.edges([38, 6]):
        expected = ALLOW if holds(operator, given & bpf.U32, 38, 6) else EPERM
        assert program.run(bpf.Call(3, I386, (given, 0, 0, 0, 0, 0))) == expected
        assert program.run(bpf.Call(BIT, X86_64, (given, 0, 0, 0, 0, 0))) == expected


def test_conditions_of_a_rule_hold_together() -> None:
    rule = allow("read", args=[argument("EQ", 1, index=0), argument("GT", 1 << 40, index=5)])
    program = compiled(syscalls=[rule])
    for first in (0, 1, 1 | 1 << 32):
        for last in (1 << 40, (1 << 40) + 1):
            got = program.run(bpf.Call(0, X86_64, (first, 9, 9, 9, 9, last)))
            assert got == (ALLOW if first == 1 and last > 1 << 40 else EPERM)


def test_conditions_on_one_argument_are_alternatives() -> None:
    """As in runc and crun."""
    program = compiled(syscalls=[allow("read", args=[argument("EQ", 1), argument("EQ", 2)])])
    assert [program.run(bpf.Call(0, X86_64, (n, 0, 0, 0, 0, 0))) for n in range(4)] == [EPERM, ALLOW, ALLOW, EPERM]


def test_a_rule_without_conditions_wins() -> None:
    """libseccomp keeps the broader of two rules, whichever came first."""
    narrow = {"names": ["read"], "action": "SCMP_ACT_KILL", "args": [argument("EQ", 1)]}
    for rules in ([narrow, allow("read")], [allow("read"), narrow]):
        assert compiled(syscalls=rules).run(bpf.Call(0, X86_64, (1, 0, 0, 0, 0, 0))) == ALLOW


def test_a_rule_with_the_default_action_says_nothing() -> None:
    denied = {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    assert compiled(syscalls=[denied, allow("read")]).run(bpf.Call(0, X86_64)) == ALLOW


def test_all_actions() -> None:
    actions = {
        "SCMP_ACT_KILL": 0x00000000,
        "SCMP_ACT_KILL_THREAD": 0x00000000,
        "SCMP_ACT_KILL_PROCESS": 0x80000000,
        "SCMP_ACT_TRAP": 0x00030000,
        "SCMP_ACT_TRACE": 0x7FF00001,
        "SCMP_ACT_LOG": 0x7FFC0000,
        "SCMP_ACT_NOTIFY": 0x7FC00000,
        "SCMP_ACT_ALLOW": 0x7FFF0000,
        "SCMP_ACT_ERRNO": 0x00050001,
    }
    for word, value in actions.items():
        program = compiled(defaultAction="SCMP_ACT_LOG", syscalls=[{"names": ["read"], "action": word}])
        assert program.run(bpf.Call(0, X86_64)) == value
    trace = {"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 77}
    assert compiled(syscalls=[trace]).run(bpf.Call(0, X86_64)) == 0x7FF00000 | 77


def test_what_is_newer_than_the_policy_is_enosys() -> None:
    program = compiled(
        architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32"], syscalls=[allow("read", "statx", "faccessat2")]
    )
    assert program.run(bpf.Call(438, X86_64)) == EPERM
    assert program.run(bpf.Call(439, X86_64)) == ALLOW
    for architecture, number in ((X86_64, 440), (X86_64, BIT | 440), (X86_64, 0x3FFFFFFF), (I386, 440), (I386, 9999)):
        assert program.run(bpf.Call(number, architecture)) == ENOSYS
    # A name counts even if its rule says nothing or has conditions.
    denied = {"names": ["openat2"], "action": "SCMP_ACT_ERRNO"}
    assert compiled(syscalls=[allow("read"), denied]).run(bpf.Call(437, X86_64)) == EPERM
    assert compiled(syscalls=[allow("read"), denied]).run(bpf.Call(438, X86_64)) == ENOSYS


@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_deny_lists_let_new_calls_through(action: str) -> None:
    program = compiled(defaultAction=action, syscalls=[{"names": ["read"], "action": "SCMP_ACT_ERRNO"}])
    assert program.run(bpf.Call(5000, X86_64)) == program.run(bpf.Call(1, X86_64)) != ENOSYS


def test_abis_that_are_not_listed_kill() -> None:
    program = compiled(syscalls=[allow("read")])
    assert program.run(bpf.Call(0, X86_64)) == ALLOW
    assert program.run(bpf.Call(3, I386)) == KILL
    assert program.run(bpf.Call(BIT, X86_64)) == KILL
    assert program.run(bpf.Call(0, AARCH64)) == KILL
    # What a tracer sets to skip a call is no number of x32's.
    assert program.run(bpf.Call(0xFFFFFFFF, X86_64)) == EPERM


def test_arm() -> None:
    rules = [allow("read", "set_tls", "openat2")]
    program = compiled("aarch64", architectures=["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"], syscalls=rules)
    assert program.run(bpf.Call(63, AARCH64)) == ALLOW
    assert program.run(bpf.Call(3, ARM)) == ALLOW
    assert program.run(bpf.Call(983045, ARM)) == ALLOW
    # Its private calls don't make everything up to them known.
    assert program.run(bpf.Call(438, ARM)) == ENOSYS
    assert program.run(bpf.Call(983044, ARM)) == ENOSYS
    assert program.run(bpf.Call(0, X86_64)) == KILL


def test_i386_multiplexers() -> None:
    """Sockets and System V IPC can also be had by one call each, whose first argument says which."""
    program = compiled(
        architectures=["SCMP_ARCH_X86"],
        syscalls=[allow("socket", args=[argument("EQ", 2)]), allow("shmget", "connect")],
    )
    assert program.run(bpf.Call(359, I386, (2, 0, 0, 0, 0, 0))) == ALLOW
    assert program.run(bpf.Call(359, I386, (38, 0, 0, 0, 0, 0))) == EPERM
    allowed = [n for n in range(25) if program.run(bpf.Call(102, I386, (n, 0, 0, 0, 0, 0))) == ALLOW]
    assert allowed == [1, 3]
    assert [n for n in range(30) if program.run(bpf.Call(117, I386, (n, 0, 0, 0, 0, 0))) == ALLOW] == [23]


def test_long_programs_jump_far() -> None:
    """Thousands of instructions: every jump still lands where it should."""
    numbers = syscalls.numbers("x86_64")
    chosen = sorted(numbers, key=numbers.__getitem__)[::2]
    rules = [allow(name, args=[argument("MASKED_EQ", 1 << 40 | i, 1 << 40)]) for i, name in enumerate(chosen)]
    program = compiled(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32"], syscalls=rules)
    assert len(program.instructions) > 1500
    for i, name in enumerate(chosen):
        assert program.run(bpf.Call(numbers[name], X86_64, (1 << 40, 0, 0, 0, 0, 0))) == ALLOW
        assert program.run(bpf.Call(numbers[name], X86_64, (i, 0, 0, 0, 0, 0))) == EPERM


def test_a_program_that_the_kernel_would_not_take() -> None:
    values = [argument("EQ", (n << 32) + n) for n in range(2000)]
    with pytest.raises(errors.ContainerError, match="instructions"):
        compiled(syscalls=[allow("read", args=values)])


def test_is_quick() -> None:
    """A call is decided within a dozen instructions, and what is allowed anyway the kernel remembers."""
    names = sorted(syscalls.numbers("x86_64"))
    chosen = random.Random(7).sample(names, 250)
    program = compiled(
        architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        syscalls=[allow(*chosen), allow("socket", args=[argument("LT", 38)])],
    )
    for name, number in syscalls.numbers("x86_64").items():
        value, steps = program.trace(bpf.Call(number, X86_64))
        assert steps <= 14
        if name != "socket":
            assert program.is_constant(number, X86_64) == (value == ALLOW)


# -- compared with libseccomp -------------------------------------------------------------------------------------

_OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
_library = libseccomp.load()


def _random_profile(chance: random.Random) -> dict[str, Any]:
    """One rule a call: what several with conditions mean together depends on libseccomp's order of its own tree."""
    assert _library is not None
    known = [name for name in sorted(syscalls.names()) if libseccomp.knows(_library, name)]
    actions = ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"]
    rules = []
    conditional = {*chance.sample(known, 40), "socket", "connect", "shmget"}
    for name in known:
        rule: dict[str, Any] = {"names": [name], "action": chance.choice(actions)}
        if name in {"ipc", "socketcall"}:
            continue  # reached by the calls behind them as well
        if name in conditional:
            rule["args"] = [
                argument(chance.choice(_OPERATORS), chance.choice(_VALUES), chance.choice(_VALUES), index=place)
                for place in chance.sample(range(6), chance.randrange(1, 4))
            ]
        elif chance.random() > 0.6:
            continue
        rules.append(rule)
    return {
        "defaultAction": chance.choice(actions),
        "architectures": chance.choice([[], ["SCMP_ARCH_X86"], ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]]),
        "syscalls": rules,
    }


_VALUES = (0, 1, 2, 38, 0x7E020000, bpf.U32, 1 << 32, 5 << 32 | 7, (1 << 64) - 1)


def _calls(chance: random.Random) -> Sequence[bpf.Call]:
    found = []
    for abi, bit in (("x86_64", 0), ("x32", BIT), ("x86", 0)):
        for number in {*syscalls.numbers(abi).values(), 600}:
            for _ in range(4):
                given = [chance.choice((*_VALUES, chance.randrange(1 << 64))) for _ in range(6)]
                if abi == "x86":
                    given = [each & bpf.U32 for each in given]
                found.append(bpf.Call(number | bit, seccomp_bpf.AUDIT_ARCH[abi], given))
    return found


@pytest.mark.skipif(_library is None, reason="libseccomp is not installed")
@pytest.mark.parametrize("seed", range(8))
def test_decides_as_libseccomp(seed: int) -> None:
    assert _library is not None
    chance = random.Random(seed)
    described: Mapping[str, Any] = _random_profile(chance)
    policy = seccomp_rules.read(described, architecture="x86_64")
    theirs = bpf.Program(libseccomp.compile_policy(_library, policy))
    ours = bpf.Program(seccomp_bpf.compile_policy(policy))
    newest = {
        abi: max(number for rule in policy.rules for name, number in numbers.items() if name in rule.names)
        for abi, numbers in ((abi, syscalls.numbers(abi)) for abi in policy.abis)
    }
    permissive = policy.default & 0xFFFF0000 in {seccomp_rules.ALLOW, seccomp_rules.LOG}
    for call in _calls(chance):
        number = call.number & ~BIT
        if number in range(440, 512):
            continue  # the oldest libseccomp about doesn't know them all
        mine, other = ours.run(call), theirs.run(call)
        abi = "x86" if call.architecture == I386 else "x32" if call.number & BIT else "x86_64"
        if number > newest.get(abi, number) and not permissive:
            other = ENOSYS  # which runc adds
        assert mine == other, f"{call} {mine:#x} {other:#x}"
