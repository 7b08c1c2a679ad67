"""The machine that ``doctor`` looks at, so that tests can describe any other one, and what a check finds of it."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from devenv.build import emulation
from devenv.network import nft
from devenv.reconcile import trials
from devenv.runtime import seccomp_rules
from devenv.util import paths


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"  # works, with something missing
    FAIL = "fail"  # environments can't run


class Check(NamedTuple):
    name: str
    status: Status
    found: str
    fix: str = ""  # a line to run, or what to change

    def to_json(self) -> dict[str, str]:
        return {"Name": self.name, "Status": str(self.status), "Found": self.found, "Fix": self.fix}


class Mount(NamedTuple):
    target: str
    kind: str
    options: frozenset[str]


class Machine:
    """This machine, as the calling user sees it."""

    def __init__(self) -> None:
        self.uid = os.geteuid()
        self.where = paths.locate()

    @property
    def rootless(self) -> bool:
        return self.uid != 0

    @property
    def user(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def read(self, path: str) -> str | None:
        try:
            with open(path, errors="replace") as file:
                return file.read().strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        text = self.read(path)
        return int(text) if text is not None and text.lstrip("-").isdigit() else None

    def now(self) -> float:
        return time.time()

    def emulators(self) -> dict[str, bool]:
        """qemu's that are registered, and whether each is there in containers, too."""
        return emulation.registered()

    def release(self) -> str:
        return os.uname().release

    def architecture(self) -> str | None:
        return seccomp_rules.native()

    def chain_policy(self, family: str, table: str, chain: str) -> str | None:
        """Of a base chain of nf_tables; empty for one that is jumped to, None where there is none, or none to see."""
        try:
            return nft.policy(family, table, chain)
        except OSError:
            return None

    def environment(self, name: str) -> str:
        return os.environ.get(name, "")

    def which(self, program: str) -> str | None:
        places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin"
        return shutil.which(program, path=places)

    def is_privileged(self, program: str) -> bool:
        """Whether it runs with more rights than its caller: set-user-ID, or file capabilities."""
        if os.stat(program).st_mode & stat.S_ISUID:
            return True
        return "security.capability" in os.listxattr(program)

    def attempt(self, trial: Callable[[], None]) -> OSError | None:
        return trials.attempt(trial)

    def id_ranges(self, uids: tuple[int, int], gids: tuple[int, int]) -> OSError | None:
        return trials.id_ranges(uids, gids)

    def mount_of(self, path: str) -> Mount:
        best = Mount("/", "unknown", frozenset())
        for line in (self.read("/proc/self/mountinfo") or "").splitlines():
            fields, _, rest = line.partition(" - ")
            target = fields.split()[4].replace("\\040", " ")
            inside = path == target or path.startswith(target.rstrip("/") + "/")
            if inside and len(target) >= len(best.target):
                best = Mount(target, rest.split()[0], frozenset(fields.split()[5].split(",")))
        return best

    def capabilities(self) -> int | None:
        """The caller's permitted set as a mask."""
        for line in (self.read("/proc/self/status") or "").splitlines():
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
        return None

    def existing(self, path: str) -> str:
        """The folder itself, or the nearest one above it that is there."""
        while not os.path.isdir(path) and path != "/":
            path = os.path.dirname(path)
        return path

    def space(self, path: str) -> tuple[int, int]:
        """Bytes and inodes that the caller may still use; -1 inodes where the filesystem has no such limit."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else -1


def install(machine: Machine, **names: str) -> str:
    """The line that installs a package: names by package manager, ``apt`` always there."""
    managers = {
        "apt": ("apt-get", "apt-get install -y"),
        "dnf": ("dnf", "dnf install -y"),
        "pacman": ("pacman", "pacman -S --noconfirm"),
        "zypper": ("zypper", "zypper install -y"),
        "apk": ("apk", "apk add"),
    }
    sudo = "sudo " if machine.rootless else ""
    for manager, (program, line) in managers.items():
        if machine.which(program):
            return f"{sudo}{line} {names.get(manager, names['apt'])}"
    return f"install the package `{names['apt']}`"


def sysctl(machine: Machine, setting: str, value: int) -> str:
    return f"{'sudo ' if machine.rootless else ''}sysctl -w {setting}={value}"


def words(problem: OSError) -> str:
    text = problem.strerror or str(problem)
    return f"{problem.filename}: {text}" if problem.filename else text
