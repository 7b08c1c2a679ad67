"""The other compiler of such policies, where it is installed: to compare with."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from devenv.runtime import seccomp_rules

_OPERATORS = {f"SCMP_CMP_{name}": number for number, name in enumerate("NE LT LE EQ GE GT MASKED_EQ".split(), 1)}
_TOKENS = {"x86_64": 0xC000003E, "x86": 0x40000003, "x32": 0x4000003E, "aarch64": 0xC00000B7, "arm": 0x40000028}


class scmp_arg_cmp(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    for function in (library.seccomp_arch_add, library.seccomp_arch_remove):
        function.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_void_p,
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    return library


def knows(library: ctypes.CDLL, name: str) -> bool:
    return int(library.seccomp_syscall_resolve_name(name.encode())) != -1


def compile_policy(library: ctypes.CDLL, policy: seccomp_rules.Policy) -> bytes:
    """As runc drives it, without its addition for new numbers."""
    context = library.seccomp_init(policy.default)
    try:
        for abi in policy.abis[1:]:
            assert library.seccomp_arch_add(context, _TOKENS[abi]) == 0
        for rule in policy.rules:
            if rule.action != policy.default:
                _add(library, context, rule)
        memory = os.memfd_create("bpf")
        try:
            assert library.seccomp_export_bpf(context, memory) == 0
            return os.pread(memory, 1 << 20, 0)
        finally:
            os.close(memory)
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, rule: seccomp_rules.Rule) -> None:
    conditions = _array(rule.conditions)
    for name in rule.names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != -1:
            result = library.seccomp_rule_add_array(context, rule.action, number, len(rule.conditions), conditions)
            assert result in {0, -17}, (name, result)


def _array(conditions: Iterable[seccomp_rules.Condition]) -> ctypes.Array[scmp_arg_cmp]:
    listed = [scmp_arg_cmp(c.argument, _OPERATORS[c.operator], c.value, c.other) for c in conditions]
    return (scmp_arg_cmp * len(listed))(*listed)
