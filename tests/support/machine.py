"""What this machine can do, found out by trying it, as marks for tests; and the skips that CI accepts."""

from __future__ import annotations

import functools
import os
import shutil

import pytest

# In CI a skipped integration or end-to-end test is a failed one, unless its reason begins like one of these: what a
# machine of one kind can't show about another kind.
ALLOWED_SKIPS = (
    "needs cgroup v1",
    "needs cgroup v2",
    "needs kernel ",
    "needs an ordinary user",
    "needs AppArmor",
    "needs SELinux",
    "needs systemd",
    "needs podman",  # too much to install for two tests
    "needs zsh",
    "needs fish",
    "needs hardware",
    "needs mmdebstrap",
    "needs qemu",
    "needs a Python in a shared library",
    "needs ipvlan",
    "needs a filesystem that shares blocks",
)


def skip_is_allowed(reason: str) -> bool:
    return reason.removeprefix("Skipped: ").startswith(ALLOWED_SKIPS)


def in_ci() -> bool:
    return bool(os.environ.get("CI"))


def is_root() -> bool:
    return os.geteuid() == 0


@functools.cache
def kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))


@functools.cache
def cgroup_version() -> int:
    """2 when the unified hierarchy is the only one, 1 when controllers live in v1 (also a hybrid), 0 for none."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return 2
    return 1 if os.path.isdir("/sys/fs/cgroup") and os.listdir("/sys/fs/cgroup") else 0


def needs_kernel(major: int, minor: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(kernel() < (major, minor), reason=f"needs kernel {major}.{minor}")


def needs_binary(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"needs the program `{name}`")


needs_root = pytest.mark.skipif(not is_root(), reason="needs root")
needs_ordinary_user = pytest.mark.skipif(is_root(), reason="needs an ordinary user")
needs_cgroup_v1 = pytest.mark.skipif(cgroup_version() != 1, reason="needs cgroup v1")
needs_cgroup_v2 = pytest.mark.skipif(cgroup_version() != 2, reason="needs cgroup v2")
