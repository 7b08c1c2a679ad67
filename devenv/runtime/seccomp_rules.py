"""``linux.seccomp`` of a ``config.json``, read and checked: the words of the runtime-spec become numbers.

Pure: nothing here asks the machine anything but which architecture it is, and that can be given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from devenv import errors

# include/uapi/linux/seccomp.h: what a filter returns. The low 16 bits are the action's own, as an errno.
KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
USER_NOTIF = 0x7FC00000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_NOTIFY": USER_NOTIF,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_WITH_ERRNO = frozenset({ERRNO, TRACE})
_EPERM = 1
_MAX_ERRNO = 4095  # include/linux/err.h; the kernel cuts a larger one down to it

OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}

# The specification's names; those without a word of ours belong to machines that devenv has no tables for.
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
    **dict.fromkeys(
        f"SCMP_ARCH_{name}"
        for name in (
            "LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PARISC PARISC64 PPC PPC64 PPC64LE "
            "RISCV64 S390 S390X SH SHEB"
        ).split()
    ),
}
# What the same processor also runs, by its own architecture.
_FAMILIES = {"x86_64": ("x86_64", "x32", "x86"), "x86": ("x86",), "aarch64": ("aarch64", "arm"), "arm": ("arm",)}


class Condition(NamedTuple):
    argument: int
    operator: str
    value: int
    other: int  # what MASKED_EQ compares with; `value` is its mask


class Rule(NamedTuple):
    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...]  # all of them have to hold


class Policy(NamedTuple):
    default: int
    abis: tuple[str, ...]  # the native one first
    rules: tuple[Rule, ...]


def native() -> str | None:
    """This machine's architecture, None when devenv has no table of its system calls."""
    machine = os.uname().machine
    if machine.startswith("armv"):
        return "arm"
    if machine in {"i386", "i486", "i586", "i686"}:
        return "x86"
    return machine if machine in _FAMILIES else None


def read(described: Mapping[str, Any], *, architecture: str, where: str = "linux.seccomp.") -> Policy:
    """Raises ``ContainerError`` that names the field, which lies at ``where``."""
    return Policy(
        default=_action(described, "defaultAction", "defaultErrnoRet", where),
        abis=_abis(described.get("architectures") or (), architecture, where),
        rules=tuple(_rules(described.get("syscalls") or (), where)),
    )


def flags(described: Mapping[str, Any], *, where: str = "linux.seccomp.") -> int:
    """As seccomp(2) takes them. Where none are given, the default of the other runtimes: SPEC_ALLOW."""
    given = described.get("flags")
    if given is None:
        return FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    found = 0
    for name in given:
        if name not in FLAGS:
            raise _wrong(f"{where}flags", name, "a flag of seccomp(2)", FLAGS)
        found |= FLAGS[name]
    return found


def _abis(words: Iterable[Any], architecture: str, where: str) -> tuple[str, ...]:
    """Those of this processor. Its own is always among them: without it no program could run at all."""
    listed = {architecture}
    for word in words:
        if word not in ARCHITECTURES:
            raise _wrong(f"{where}architectures", word, "an architecture", ARCHITECTURES)
        listed.add(ARCHITECTURES[word] or "")
    return tuple(abi for abi in _FAMILIES[architecture] if abi in listed)


def _rules(entries: Iterable[Any], base: str) -> Iterable[Rule]:
    for number, entry in enumerate(entries):
        where = f"{base}syscalls[{number}]."
        if not isinstance(entry, Mapping):
            raise errors.ContainerError(f"`{where[:-1]}` is no object")
        names = entry.get("names")
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            raise errors.ContainerError(f"`{where}names` has to name at least one system call")
        action = _action(entry, "action", "errnoRet", where)
        conditions = tuple(_conditions(entry.get("args") or (), where))
        indices = [condition.argument for condition in conditions]
        if len(set(indices)) < len(indices):
            # As in runc and crun: conditions on one argument are alternatives. Profiles written for them rely on it.
            for condition in conditions:
                yield Rule(tuple(names), action, (condition,))
        else:
            yield Rule(tuple(names), action, conditions)


def _action(entry: Mapping[str, Any], field: str, errno_field: str, where: str) -> int:
    word = entry.get(field)
    if not isinstance(word, str) or word not in ACTIONS:
        raise _wrong(f"{where}{field}", word, "an action", ACTIONS)
    action, number = ACTIONS[word], entry.get(errno_field)
    if number is None:
        return action | _EPERM if action in _WITH_ERRNO else action
    if action not in _WITH_ERRNO:
        raise errors.ContainerError(f"`{where}{errno_field}` has no meaning for `{word}`", hint="leave it out")
    if not _is_number(number) or not 0 <= number <= _MAX_ERRNO:
        raise errors.ContainerError(f"`{where}{errno_field}` is {number}, not an errno from 0 to {_MAX_ERRNO}")
    return action | int(number)


def _conditions(entries: Iterable[Any], where: str) -> Iterable[Condition]:
    for number, entry in enumerate(entries):
        here = f"{where}args[{number}]"
        if not isinstance(entry, Mapping):
            raise errors.ContainerError(f"`{here}` is no object")
        operator = entry.get("op")
        if operator not in OPERATORS:
            raise _wrong(f"{here}.op", operator, "an operator", OPERATORS)
        index, value, other = (entry.get(name, 0) or 0 for name in ("index", "value", "valueTwo"))
        if not _is_number(index) or not 0 <= index <= 5:
            raise errors.ContainerError(f"`{here}.index` is {index}; arguments are counted from 0 to 5")
        for name, given in (("value", value), ("valueTwo", other)):
            if not _is_number(given) or not 0 <= given < 1 << 64:
                raise errors.ContainerError(f"`{here}.{name}` is {given}, not a number of 64 bits without a sign")
        yield Condition(int(index), str(operator), int(value), int(other))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(where: str, value: Any, what: str, known: Iterable[str]) -> errors.ContainerError:
    text = "missing" if value is None else f"`{value}`, which is not {what}"
    return errors.ContainerError(f"`{where}` is {text}", hint=f"it is one of {', '.join(sorted(known))}")


def check_listener(described: Mapping[str, Any], policy: Policy, *, where: str = "linux.seccomp.") -> bool:
    """Whether somebody is to be notified. Raises ``ContainerError`` when nobody could be."""
    if policy.default == USER_NOTIF:
        raise errors.ContainerError(
            f"`{where}defaultAction` can't be `SCMP_ACT_NOTIFY`",
            hint="the runtime itself still has to hand the listener over; name the calls that you want to see",
        )
    notifying = [rule for rule in policy.rules if rule.action == USER_NOTIF]
    if any("sendmsg" in rule.names for rule in notifying):
        raise errors.ContainerError(
            f"`{where}syscalls` can't notify of `sendmsg`", hint="the runtime hands the listener over with it"
        )
    if notifying and not described.get("listenerPath"):
        raise errors.ContainerError(
            f"`{where}syscalls` has `SCMP_ACT_NOTIFY`, and `{where}listenerPath` is missing",
            hint="name the socket of the agent that is to be notified",
        )
    if described.get("listenerMetadata") and not described.get("listenerPath"):
        raise errors.ContainerError(f"`{where}listenerMetadata` is there without `{where}listenerPath`")
    return bool(notifying)
