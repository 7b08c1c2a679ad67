"""A compiler from a seccomp policy to classic BPF, the program that the kernel runs before every system call.

    load the architecture           its own section for each ABI; one that the policy doesn't list is killed
      load the number               x86-64 tells x32 by bit 30 of the number
        binary search               over ranges of numbers that are decided alike: six or seven comparisons
          return                    for most numbers
          compare arguments         in halves of 32 bits: the machine has no more

Since Linux 5.11 the kernel runs the program once for every number when it is loaded and remembers which are allowed
whatever the arguments; those never pay again. It follows only loads of the number and the architecture, `and`, and
jumps: arguments are therefore loaded nowhere but below the numbers that need them.

Jumps go forwards and reach 255 instructions, so the program is written from its end: a jump's targets are there
already, and one that is too far is copied (a return) or reached by a long jump.

What several rules for one call mean together is decided as libseccomp does, since profiles are written for it: a rule
with the default action says nothing; the first rule without conditions wins over all others; else the first whose
conditions hold. As in runc, a number above all that the policy mentions is ENOSYS, so that programs fall back to an
older call instead of giving up: whoever wrote the policy did not know it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from devenv import errors
from devenv.linux import syscalls
from devenv.runtime import seccomp_rules as rules

# include/uapi/linux/bpf_common.h
LD_W_ABS = 0x20
ALU_AND_K = 0x54
JMP_JA = 0x05
JMP_JEQ_K = 0x15
JMP_JGT_K = 0x25
JMP_JGE_K = 0x35
RET_K = 0x06

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_FAR = 255
_BPF_MAXINSNS = 4096
_ENOSYS = rules.ERRNO | 38
# A tracer sets it to skip the call (ptrace(2)); it is no number of either ABI.
_SKIPPED = 0xFFFFFFFF

# include/uapi/linux/audit.h
AUDIT_ARCH = {"x86_64": 0xC000003E, "x32": 0xC000003E, "x86": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
_HAS_64_BITS = frozenset({"x86_64", "aarch64"})
# ARM's own calls (breakpoint, cacheflush, set_tls) lie far above the others and say nothing of what is new.
_ARM_PRIVATE = 0xF0000

# include/uapi/linux/net.h and ipc.h: i386 also has these behind one call, whose first argument says which is meant.
_MULTIPLEXED = {
    **{
        name: ("socketcall", number)
        for number, name in enumerate(
            "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown "
            "setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg".split(),
            1,
        )
    },
    **dict(zip("semop semget semctl semtimedop".split(), (("ipc", number) for number in range(1, 5)), strict=True)),
    **dict(zip("msgsnd msgrcv msgget msgctl".split(), (("ipc", number) for number in range(11, 15)), strict=True)),
    **dict(zip("shmat shmdt shmget shmctl".split(), (("ipc", number) for number in range(21, 25)), strict=True)),
}

# Conditions with what they lead to, tried in this order before the default; none for a plain action.
Chain = tuple[tuple[tuple[rules.Condition, ...], int], ...]
Outcome = int | Chain


class Instruction(NamedTuple):
    code: int
    jt: int
    jf: int
    k: int


def compile_policy(policy: rules.Policy) -> bytes:
    """An array of ``struct sock_filter``. Raises ``ContainerError`` for a policy larger than the kernel takes."""
    writer = _Writer(policy.default)
    # The native section last, which is first in the program.
    at = writer.ret(rules.KILL_THREAD)
    for abi in reversed(policy.abis):
        if abi == "x32":
            continue  # a part of x86-64's
        ranges = _ranges(policy, abi)
        if abi == "x86_64":
            ranges += _x32_ranges(policy)
        section = writer.load(_NUMBER, writer.search(ranges))
        at = writer.jump(JMP_JEQ_K, AUDIT_ARCH[abi], section, at)
    writer.load(_ARCHITECTURE, at)
    return writer.program()


class _Range(NamedTuple):
    start: int
    outcome: Outcome
    wide: bool  # compare all 64 bits of arguments


def _ranges(policy: rules.Policy, abi: str, bit: int = 0) -> list[_Range]:
    """By ascending first number, ``bit`` added to each; a range goes up to the next."""
    outcomes, newest = _outcomes(policy, abi)
    permissive = policy.default & 0xFFFF0000 in {rules.ALLOW, rules.LOG, rules.TRACE}
    beyond = policy.default if permissive or newest < 0 else _ENOSYS
    wide = abi in _HAS_64_BITS
    found: list[_Range] = []

    def add(start: int, outcome: Outcome) -> None:
        if not found or found[-1].outcome != outcome:
            found.append(_Range(start | bit, outcome, wide))

    def fill(start: int, end: int) -> None:
        if start < end and start <= newest:
            add(start, policy.default)
        if newest + 1 < end:
            add(max(start, newest + 1), beyond)

    following = 0
    for number in sorted(outcomes):
        fill(following, number)
        add(number, outcomes[number])
        following = number + 1
    fill(following, 1 << 32)
    return found


def _x32_ranges(policy: rules.Policy) -> list[_Range]:
    """What x86-64's numbers go on with."""
    if "x32" in policy.abis:
        return _ranges(policy, "x32", syscalls.X32_SYSCALL_BIT)
    return [
        _Range(syscalls.X32_SYSCALL_BIT, rules.KILL_THREAD, wide=False),
        _Range(_SKIPPED, policy.default, wide=False),
    ]


def _outcomes(policy: rules.Policy, abi: str) -> tuple[dict[int, Outcome], int]:
    """Number -> outcome where it is not the default's, and the newest number that the policy mentions (-1: none)."""
    table = syscalls.numbers(abi)
    plain: dict[int, int] = {}
    chains: dict[int, list[tuple[tuple[rules.Condition, ...], int]]] = {}
    newest = -1
    for rule in policy.rules:
        says_nothing = rule.action == policy.default
        for number, conditions in _targets(rule, abi, table):
            if newest < number < _ARM_PRIVATE:
                newest = number
            if says_nothing:
                continue
            if conditions:
                chains.setdefault(number, []).append((conditions, rule.action))
            else:
                plain.setdefault(number, rule.action)
    outcomes: dict[int, Outcome] = {number: tuple(chain) for number, chain in chains.items()}
    outcomes.update(plain)
    return outcomes, newest


def _targets(rule: rules.Rule, abi: str, table: Mapping[str, int]) -> list[tuple[int, tuple[rules.Condition, ...]]]:
    found = []
    for name in rule.names:
        number = table.get(name)
        if number is not None:
            found.append((number, rule.conditions))
        if abi == "x86" and name in _MULTIPLEXED:
            # As libseccomp: the call's own first argument lies in memory, where no filter can look.
            through, which = _MULTIPLEXED[name]
            rest = (condition for condition in rule.conditions if condition.argument != 0)
            found.append((table[through], (rules.Condition(0, "SCMP_CMP_EQ", which, 0), *rest)))
    return found


class _Writer:
    """Instructions from the last to the first; a place is an index into that order."""

    def __init__(self, default: int) -> None:
        self._default = default
        self._code: list[Instruction] = []
        self._known: dict[Instruction | tuple[object, ...], int] = {}

    def program(self) -> bytes:
        if len(self._code) > _BPF_MAXINSNS:
            raise errors.ContainerError(
                f"`linux.seccomp` makes {len(self._code)} instructions; the kernel takes {_BPF_MAXINSNS}",
                hint="use fewer conditions on arguments",
            )
        return b"".join(struct.pack("=HBBI", *each) for each in reversed(self._code))

    def ret(self, value: int) -> int:
        return self._once(Instruction(RET_K, 0, 0, value))

    def load(self, offset: int, then: int) -> int:
        """A load falls into what follows it."""
        if then != len(self._code) - 1:
            self._put(Instruction(JMP_JA, 0, 0, len(self._code) - then - 1))
        return self._put(Instruction(LD_W_ABS, 0, 0, offset))

    def jump(self, code: int, value: int, yes: int, no: int) -> int:
        if yes == no:
            return yes
        yes = self._near(yes, 1)
        no = self._near(no, 0)
        here = len(self._code)
        return self._put(Instruction(code, here - yes - 1, here - no - 1, value))

    def search(self, ranges: Sequence[_Range]) -> int:
        """Expects the number in the accumulator."""
        if len(ranges) == 1:
            return self._decide(ranges[0])
        if len(ranges) == 3 and ranges[0].outcome == ranges[2].outcome and ranges[1].start + 1 == ranges[2].start:
            # One number among others that are all decided alike.
            return self.jump(JMP_JEQ_K, ranges[1].start, self._decide(ranges[1]), self._decide(ranges[0]))
        middle = len(ranges) // 2
        upper = self.search(ranges[middle:])
        lower = self.search(ranges[:middle])
        return self.jump(JMP_JGE_K, ranges[middle].start, upper, lower)

    def _decide(self, chosen: _Range) -> int:
        if isinstance(chosen.outcome, int):
            return self.ret(chosen.outcome)
        key = ("chain", chosen.outcome, chosen.wide)
        if not self._reaches(self._known.get(key)):
            at = self.ret(self._default)
            for conditions, action in reversed(chosen.outcome):
                then, otherwise = self.ret(action), at
                for condition in reversed(conditions):
                    then = self._test(condition, then, otherwise, wide=chosen.wide)
                at = then
            self._known[key] = at
        return self._known[key]

    def _test(self, condition: rules.Condition, yes: int, no: int, *, wide: bool) -> int:
        if yes == no:
            return yes
        operator = condition.operator.removeprefix("SCMP_CMP_")
        if operator in {"NE", "LT", "LE"}:
            operator = {"NE": "EQ", "LT": "GE", "LE": "GT"}[operator]
            yes, no = no, yes
        low = _ARGUMENTS + 8 * condition.argument
        if operator in {"EQ", "MASKED_EQ"}:
            mask, value = (1 << 64) - 1, condition.value
            if operator == "MASKED_EQ":
                mask, value = condition.value, condition.other & condition.value
            at = self._equal(low, mask & 0xFFFFFFFF, value & 0xFFFFFFFF, yes, no)
            return self._equal(low + 4, mask >> 32, value >> 32, at, no) if wide else at
        # The upper halves decide unless they are equal.
        code = JMP_JGT_K if operator == "GT" else JMP_JGE_K
        at = self.load(low, self.jump(code, condition.value & 0xFFFFFFFF, yes, no))
        if not wide:
            return at
        upper = condition.value >> 32
        at = self.jump(JMP_JEQ_K, upper, at, no)
        return self.load(low + 4, self.jump(JMP_JGT_K, upper, yes, at))

    def _equal(self, offset: int, mask: int, value: int, yes: int, no: int) -> int:
        if mask == 0 or yes == no:
            return yes
        at = self.jump(JMP_JEQ_K, value, yes, no)
        if mask != 0xFFFFFFFF:
            at = self._put(Instruction(ALU_AND_K, 0, 0, mask))
        return self.load(offset, at)

    def _reaches(self, place: int | None) -> bool:
        return place is not None and len(self._code) - place < _FAR - 2

    def _once(self, instruction: Instruction) -> int:
        if not self._reaches(self._known.get(instruction)):
            self._known[instruction] = self._put(instruction)
        return self._known[instruction]

    def _near(self, place: int, room: int) -> int:
        """Somewhere that a jump reaches, even after ``room`` more instructions."""
        if len(self._code) + room - place - 1 <= _FAR:
            return place
        target = self._code[place]
        if target.code == RET_K:
            return self._put(target)
        return self._put(Instruction(JMP_JA, 0, 0, len(self._code) - place - 1))

    def _put(self, instruction: Instruction) -> int:
        self._code.append(instruction)
        return len(self._code) - 1
