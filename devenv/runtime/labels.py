"""Labels of Linux security modules: SELinux' and AppArmor's, where the kernel has them; an error where it hasn't."""

from __future__ import annotations

import os

from devenv import errors
from devenv.linux import procfs

_LABELLED = frozenset({"tmpfs", "mqueue", "devpts", "ramfs"})


def enabled() -> bool:
    return os.path.exists("/sys/fs/selinux/status")


def apparmor_enabled() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def check(process: dict[str, object], mount_label: str | None = None) -> None:
    """Raises ``ContainerError`` for a label that this kernel can't give; called while we still see the host's /sys."""
    if (process.get("selinuxLabel") or mount_label) and not enabled():
        raise errors.ContainerError(
            "a selinux label is specified in config, but selinux is disabled or not supported by this kernel"
        )
    if process.get("apparmorProfile") and not apparmor_enabled():
        raise errors.ContainerError(
            "an apparmor profile is specified in config, but apparmor is not enabled on the host"
        )


def mount_data(kind: str, data: str, label: str | None) -> str:
    """The option string of a filesystem, with the container's label on it."""
    if not label or kind not in _LABELLED or "context=" in data:
        return data
    return ",".join(part for part in (data, f'context="{label}"') if part)


def label_next_program(process: dict[str, object]) -> None:
    """Takes effect at the next execve(2). ``check`` was called before."""
    label, profile = process.get("selinuxLabel"), process.get("apparmorProfile")
    if label:
        _write("exec", str(label))
    if profile:
        try:
            _write("apparmor/exec", f"exec {profile}")
        except FileNotFoundError:
            _write("exec", f"exec {profile}")


def _write(name: str, value: str) -> None:
    # The caller stands in the container, so whatever is at /proc there must be the kernel's.
    descriptor = procfs.open_own(f"attr/{name}", os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
