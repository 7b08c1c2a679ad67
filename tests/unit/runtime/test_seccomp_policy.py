"""The default policy against Docker's: each decision, for each processor, set of capabilities and kernel.

Docker's file is read here in a few lines of its own, without anything of what is tested but the tables of numbers.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from devenv.linux import syscalls
from devenv.runtime import bundle, capabilities, seccomp_bpf, seccomp_policy, seccomp_profile, seccomp_rules
from tests.support import bpf

ORACLE = json.loads((pathlib.Path(__file__).parent / "testdata" / "docker-default-seccomp.json").read_text())
ALLOW, EPERM, ENOSYS, EAFNOSUPPORT = 0x7FFF0000, 0x00050001, 0x00050026, 0x00050061
_ABIS = {"x86_64": ("x86_64", "x32", "x86"), "aarch64": ("aarch64", "arm")}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_CAPABILITIES = sorted(
    {name for entry in ORACLE["syscalls"] for name in entry.get("includes", {}).get("caps", ())}
    | {name for entry in ORACLE["syscalls"] for name in entry.get("excludes", {}).get("caps", ())}
)


def _entries(machine: str, kernel: tuple[int, int], held: frozenset[str]) -> Iterator[dict[str, Any]]:
    """moby's rules for `includes` and `excludes`."""
    for entry in ORACLE["syscalls"]:
        includes, excludes = entry.get("includes", {}), entry.get("excludes", {})
        if machine in excludes.get("arches", ()) or held.intersection(excludes.get("caps", ())):
            continue
        if includes.get("arches") and machine not in includes["arches"]:
            continue
        if not held.issuperset(includes.get("caps", ())):
            continue
        least = includes.get("minKernel")
        if least and kernel < tuple(int(part) for part in least.split(".")):
            continue
        yield entry


_COMPARE: dict[str, Callable[[int, int, int], bool]] = {
    "SCMP_CMP_LT": lambda given, value, _: given < value,
    "SCMP_CMP_GT": lambda given, value, _: given > value,
    "SCMP_CMP_EQ": lambda given, value, _: given == value,
    "SCMP_CMP_MASKED_EQ": lambda given, value, other: given & value == other,
}


def _docker(entries: Sequence[dict[str, Any]], abi: str) -> Callable[[int, Sequence[int]], int]:
    numbers = syscalls.numbers(abi)
    mentioned = {numbers[name] for entry in entries for name in entry["names"] if name in numbers}
    newest = max(number for number in mentioned if number < 0xF0000)
    always: set[int] = set()
    rules: dict[int, list[dict[str, Any]]] = {}
    for entry in entries:
        for name in entry["names"]:
            if name in numbers:
                rules.setdefault(numbers[name], []).append(entry)
                if not entry.get("args") and entry["action"] == "SCMP_ACT_ALLOW":
                    always.add(numbers[name])

    def decide(number: int, arguments: Sequence[int]) -> int:
        if number in always:
            return ALLOW
        for entry in rules.get(number, ()):
            width = 64 if abi in {"x86_64", "aarch64"} else 32
            if all(
                _COMPARE[each["op"]](arguments[each["index"]] % (1 << width), each["value"], each.get("valueTwo", 0))
                for each in entry.get("args", ())
            ):
                return ALLOW if entry["action"] == "SCMP_ACT_ALLOW" else 0x00050000 | entry["errnoRet"]
        return EPERM if number <= newest else ENOSYS

    return decide


def _ours(architecture: str, kernel: tuple[int, int], held: frozenset[str]) -> bpf.Program:
    target = seccomp_profile.Target(architecture, kernel, held)
    policy = seccomp_rules.read(seccomp_policy.DEFAULT.resolve(target), architecture=architecture)
    return bpf.Program(seccomp_bpf.compile_policy(policy))


# What the conditions speak of, and what programs use.
_FIRST_ARGUMENTS = bpf.edges(
    [0x8, 0x20000, 0x20008, 0xFFFFFFFF, 1, 2, 10, 16, 17, 38, 39, 40, 41, 45, 0x1200011, 0x3D0F00]
    + [1 << bit for bit in range(40)]
    + [0x7E020000]
)
_CONDITIONAL = frozenset({"socket", "personality", "clone", "clone3"})


_NEW = (6, 0)
_EVERY = frozenset(capabilities.NAMES)
_CASES = [
    *((kernel, held) for kernel in ((4, 7), (4, 8), _NEW) for held in (frozenset[str](), _EVERY)),
    (_NEW, frozenset(capabilities.DEFAULT)),
    *((_NEW, frozenset({name})) for name in _CAPABILITIES),
    *((_NEW, _EVERY - {name}) for name in _CAPABILITIES),
]


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("kernel", "held"), _CASES)
def test_decides_as_docker(kernel: tuple[int, int], held: frozenset[str], architecture: str) -> None:
    program = _ours(architecture, kernel, held)
    entries = list(_entries(_MACHINES[architecture], kernel, held))
    stricter = set()
    for abi in _ABIS[architecture]:
        numbers = syscalls.numbers(abi)
        conditional = {numbers[name] for name in _CONDITIONAL}
        decide = _docker(entries, abi)
        bit = syscalls.X32_SYSCALL_BIT if abi == "x32" else 0
        for number in [*range(560), *range(983040, 983050)]:
            firsts: Sequence[int] = _FIRST_ARGUMENTS if number in conditional else (0, 0x7E020000)
            for first in firsts:
                arguments = (first, 0, 0, 0, 0, 0)
                got = program.run(bpf.Call(number | bit, seccomp_bpf.AUDIT_ARCH[abi], arguments))
                if got != decide(number, arguments):
                    stricter.add((abi, number, got, first > bpf.U32))
    # The kernel cuts a socket's family to 32 bits, Docker's filter doesn't: 1 << 32 | AF_ALG gets through there.
    assert stricter == {(architecture, syscalls.numbers(architecture)["socket"], EAFNOSUPPORT, True)}


def test_what_docker_allows_on_x86_64() -> None:
    program = _ours("x86_64", (6, 0), frozenset(capabilities.DEFAULT))
    allowed = {
        name
        for name, number in syscalls.numbers("x86_64").items()
        if any(program.run(bpf.Call(number, 0xC000003E, (n, 0, 0, 0, 0, 0))) == ALLOW for n in (0, 2))
    }
    assert {"read", "clone", "socket", "personality", "ptrace", "chroot", "statx", "futex_wait"} <= allowed
    assert not allowed & {
        "add_key",
        "bpf",
        "clone3",
        "delete_module",
        "io_uring_setup",
        "kexec_load",
        "keyctl",
        "mount",
        "move_pages",
        "open_by_handle_at",
        "perf_event_open",
        "pivot_root",
        "reboot",
        "request_key",
        "setns",
        "swapon",
        "umount2",
        "unshare",
        "userfaultfd",
    }


def test_the_kernel_remembers_most_of_it() -> None:
    """So that the filter costs the calls that programs make most nothing at all."""
    program = _ours("x86_64", (6, 0), frozenset(capabilities.DEFAULT))
    remembered = [number for number in range(480) if program.is_constant(number, 0xC000003E)]
    assert len(remembered) > 280
    for name in ("read", "write", "futex", "epoll_wait", "openat", "mmap", "sendmsg", "recvmsg", "clock_nanosleep"):
        assert syscalls.numbers("x86_64")[name] in remembered


def _bundle(**options: Any) -> dict[str, Any]:
    overlay = bundle.Overlay("/", ("/image",), "/upper", "/work")
    made = bundle.build(bundle.Options(args=("true",), rootfs=bundle.Rootfs((overlay,)), **options))
    found: dict[str, Any] = made["linux"]
    return found


def test_bundles_have_it() -> None:
    assert _bundle()["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "seccomp" not in _bundle(privileged=True)
    assert "seccomp" not in _bundle(seccomp=None)


def test_bundles_have_what_their_capabilities_give() -> None:
    def allowed(linux: dict[str, Any]) -> set[str]:
        return {name for rule in linux["seccomp"]["syscalls"] for name in rule["names"] if "args" not in rule}

    assert "mount" not in allowed(_bundle())
    assert "mount" in allowed(_bundle(cap_add=("SYS_ADMIN",)))
    assert "chroot" not in allowed(_bundle(cap_drop=("ALL",)))


def test_a_profile_of_ones_own_holds_for_privileged_containers_too() -> None:
    profile = seccomp_profile.parse({"defaultAction": "SCMP_ACT_LOG"})
    assert _bundle(privileged=True, seccomp=profile)["seccomp"]["defaultAction"] == "SCMP_ACT_LOG"
