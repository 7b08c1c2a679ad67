"""Docker's format for seccomp profiles: what a container gets depends on its capabilities, processor and kernel.

A profile is the runtime-spec's ``linux.seccomp`` with three additions: ``archMap`` in place of ``architectures``, the
conditions ``includes`` and ``excludes`` (``caps``, ``arches``, ``minKernel``) in each entry of ``syscalls``, and
``name`` as an older word for ``names``. ``resolve`` takes them out again: what is left goes into a ``config.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from devenv import errors
from devenv.linux import syscalls
from devenv.runtime import seccomp_bpf, seccomp_rules

# Docker's words for processors, in `arches`.
_MACHINES = {"x86_64": "amd64", "x86": "x86", "aarch64": "arm64", "arm": "arm"}
_CARRIED = ("defaultAction", "defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")
_LARGEST = 4 << 20
Version = tuple[int, int]


class When(NamedTuple):
    """One of ``includes`` and ``excludes``; an empty field asks for nothing."""

    caps: frozenset[str] = frozenset()
    arches: frozenset[str] = frozenset()
    min_kernel: Version | None = None


class Entry(NamedTuple):
    rule: Mapping[str, Any]  # as the runtime-spec has it
    includes: When = When()
    excludes: When = When()


class Target(NamedTuple):
    """What a profile is resolved for."""

    architecture: str  # as `seccomp_rules.native` says it
    kernel: Version
    capabilities: frozenset[str]  # the bounding set


class Profile(NamedTuple):
    head: Mapping[str, Any]  # the fields that stay as they are
    arch_map: Mapping[str, tuple[str, ...]]  # architecture -> itself and its sub-architectures
    entries: tuple[Entry, ...]

    def resolve(self, target: Target) -> dict[str, Any]:
        """``linux.seccomp`` for one container."""
        found = dict(self.head)
        if self.arch_map:
            word = f"SCMP_ARCH_{target.architecture.upper()}"
            found["architectures"] = list(self.arch_map.get(word, ()))
        found["syscalls"] = [dict(entry.rule) for entry in self.entries if _applies(entry, target)]
        return found


def target(capabilities: Collection[str]) -> Target | None:
    """This machine; None when devenv has no table of its system calls."""
    architecture = seccomp_rules.native()
    if architecture is None:
        return None
    return Target(architecture, _version(os.uname().release) or (0, 0), frozenset(capabilities))


def _applies(entry: Entry, target: Target) -> bool:
    machine = _MACHINES[target.architecture]
    wanted, unwanted = entry.includes, entry.excludes
    return not (
        machine in unwanted.arches
        or unwanted.caps & target.capabilities
        or (unwanted.min_kernel is not None and target.kernel >= unwanted.min_kernel)
        or (wanted.arches and machine not in wanted.arches)
        or not wanted.caps <= target.capabilities
        or (wanted.min_kernel is not None and target.kernel < wanted.min_kernel)
    )


class Read(NamedTuple):
    profile: Profile
    unknown: tuple[str, ...]  # names in it that are no system call anywhere
    digest: str


def read(path: str) -> Read:
    """A profile from a file. Raises ``SpecError``."""
    try:
        # O_NONBLOCK: nobody may ever write to a named pipe in its place.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as exc:
        raise errors.SpecError(
            f"the seccomp profile `{path}` can't be read: {exc.strerror}",
            hint="it is relative to the project's folder; `seccomp:unconfined` is for no filter at all",
        ) from exc
    if len(text) > _LARGEST:
        raise errors.SpecError(f"the seccomp profile `{path}` has more than {_LARGEST >> 20} MiB")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as exc:
        raise errors.SpecError(f"the seccomp profile `{path}` is not JSON: line {exc.lineno}: {exc.msg}") from exc
    except ValueError as exc:
        raise errors.SpecError(f"the seccomp profile `{path}` is not JSON: {exc}") from exc
    try:
        profile = parse(data)
    except errors.ContainerError as exc:
        raise errors.SpecError(f"the seccomp profile `{path}` is wrong: {exc.message}", hint=exc.hint) from exc
    unknown = {name for entry in profile.entries for name in entry.rule["names"]} - syscalls.names()
    return Read(profile, tuple(sorted(unknown)), hashlib.sha256(text).hexdigest())


def parse(data: Any) -> Profile:
    """Raises ``ContainerError`` that names the field, whichever entries this machine would use."""
    if not isinstance(data, Mapping):
        raise errors.ContainerError("it is no JSON object")
    if data.get("architectures") and data.get("archMap"):
        raise errors.ContainerError("`architectures` and `archMap` exclude each other", hint="keep one")
    raw = data.get("syscalls") or []
    if not isinstance(raw, list):
        raise errors.ContainerError("`syscalls` is no list")
    entries = tuple(_entry(each, f"syscalls[{number}]") for number, each in enumerate(raw))
    head = {name: data[name] for name in (*_CARRIED, "architectures") if data.get(name) is not None}
    profile = Profile(head, _arch_map(data.get("archMap") or []), entries)
    # All of it as if it were for this machine, which finds what is wrong with any of it.
    everything = {**head, "syscalls": [entry.rule for entry in entries]}
    policy = seccomp_rules.read(everything, architecture=seccomp_rules.native() or "x86_64", where="")
    seccomp_rules.flags(everything, where="")
    seccomp_rules.check_listener(everything, policy, where="")
    seccomp_bpf.compile_policy(policy)
    return profile


def _entry(data: Any, where: str) -> Entry:
    if not isinstance(data, Mapping):
        raise errors.ContainerError(f"`{where}` is no object")
    names = data.get("names")
    if data.get("name"):
        if names:
            raise errors.ContainerError(f"`{where}` has `name` and `names`", hint="keep `names`")
        names = [data["name"]]
    rule = {"names": names, "action": data.get("action")}
    rule.update({name: data[name] for name in ("errnoRet", "args") if data.get(name) not in (None, [])})
    return Entry(
        rule,
        includes=_when(data.get("includes") or {}, f"{where}.includes"),
        excludes=_when(data.get("excludes") or {}, f"{where}.excludes"),
    )


def _when(data: Any, where: str) -> When:
    if not isinstance(data, Mapping):
        raise errors.ContainerError(f"`{where}` is no object")
    version = None
    if data.get("minKernel"):
        version = _version(str(data["minKernel"]), whole=True)
        if version is None:
            raise errors.ContainerError(f"`{where}.minKernel` is `{data['minKernel']}`", hint='it looks like "4.8"')
    return When(_words(data, "caps", where), _words(data, "arches", where), version)


def _words(data: Mapping[str, Any], name: str, where: str) -> frozenset[str]:
    found = data.get(name) or []
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise errors.ContainerError(f"`{where}.{name}` is no list of names")
    return frozenset(found)


def _arch_map(data: Any) -> dict[str, tuple[str, ...]]:
    found = {}
    for number, each in enumerate(data if isinstance(data, list) else [data]):
        main = each.get("architecture") if isinstance(each, Mapping) else None
        words = (main, *(each.get("subArchitectures") or ())) if isinstance(each, Mapping) else (main,)
        for word in words:
            if word not in seccomp_rules.ARCHITECTURES:
                raise errors.ContainerError(f"`archMap[{number}]`: `{word}` is not an architecture")
        found[str(main)] = tuple(str(word) for word in words)
    return found


def _version(text: str, *, whole: bool = False) -> Version | None:
    match = (re.fullmatch if whole else re.match)(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
