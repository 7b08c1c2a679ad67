"""bpf(2): only what a program that guards a cgroup's devices needs."""

from __future__ import annotations

import ctypes

from devenv.linux.libc import SYS_bpf, check, libc

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_GET_FD_BY_ID = 13
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2


class _prog_load(ctypes.Structure):
    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * 16),
    )


class _prog_attach(ctypes.Structure):
    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    )


class _prog_query(ctypes.Structure):
    _fields_ = (
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_uint64),
        ("prog_cnt", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
    )


class _get_id(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint32), ("next_id", ctypes.c_uint32), ("open_flags", ctypes.c_uint32))


def _bpf(command: int, attr: ctypes.Structure) -> int:
    return check(libc.syscall(SYS_bpf, command, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr))))


def prog_load(kind: int, instructions: bytes, name: str) -> int:
    """A descriptor of the loaded program; ``instructions`` are struct bpf_insn, eight bytes each."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    # The devices guard calls no helper that is for GPL programs only.
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attr = _prog_load(prog_type=kind, insn_cnt=len(instructions) // 8, prog_name=name.encode()[:15])
    attr.insns, attr.license = ctypes.addressof(code), ctypes.addressof(licence)
    return _bpf(BPF_PROG_LOAD, attr)


def prog_attach(target: int, program: int, kind: int, flags: int) -> None:
    _bpf(BPF_PROG_ATTACH, _prog_attach(target, program, kind, flags))


def prog_detach(target: int, program: int, kind: int) -> None:
    _bpf(BPF_PROG_DETACH, _prog_attach(target, program, kind, 0))


def prog_query(target: int, kind: int) -> list[int]:
    """The ids of the programs attached to a cgroup."""
    ids = (ctypes.c_uint32 * 64)()
    attr = _prog_query(target_fd=target, attach_type=kind, prog_cnt=64)
    attr.prog_ids = ctypes.addressof(ids)
    _bpf(BPF_PROG_QUERY, attr)
    return list(ids[: attr.prog_cnt])


def prog_get_fd_by_id(number: int) -> int:
    return _bpf(BPF_PROG_GET_FD_BY_ID, _get_id(number, 0, 0))
