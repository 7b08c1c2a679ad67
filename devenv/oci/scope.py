"""The systemd cgroup manager: a container's cgroup as a scope that systemd has made and knows of.

``linux.cgroupsPath`` is ``slice:prefix:name`` then. systemd makes a scope only for a process, and the container's first
one is to be born in it: so a process that does nothing holds the place until that has happened.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

from devenv import errors
from devenv.linux import dbus
from devenv.linux import process as linux_process
from devenv.runtime import cgroup, container, devicerules, systemd


class Scope(NamedTuple):
    bus: dbus.Bus
    unit: str
    path: str  # of its cgroup, from the hierarchies' root

    def take(self, pid: int) -> None:
        """The container's first process, which is in the cgroups of all controllers already.

        Where v1 has the controllers, systemd may still look after its units in the unified hierarchy.
        """
        if cgroup.place().version == 1:
            systemd.attach(self.bus, self.unit, pid)


def name(cgroups_path: str, container_id: str, *, user: bool) -> tuple[str, str]:
    """The slice and the unit. Raises ``ContainerError``."""
    own = "user.slice" if user else "system.slice"
    if not cgroups_path:
        return own, f"devenv-oci-{container_id}.scope"
    parts = cgroups_path.split(":")
    if len(parts) != 3 or not parts[2] or "/" in cgroups_path:
        raise errors.ContainerError(
            f"expected cgroupsPath to be of format `slice:prefix:name` for systemd cgroups, got `{cgroups_path}`"
        )
    above, prefix, last = parts
    if above == "-.slice" or (above and not above.endswith(".slice")):
        raise errors.ContainerError(f"`{above}` is no slice of systemd's", hint="its name ends with `.slice`")
    return above or own, f"{prefix}-{last}.scope" if prefix else f"{last}.scope"


@contextlib.contextmanager
def held(config: dict[str, Any], container_id: str, *, user: bool) -> Iterator[Scope]:
    """A new scope with the container's limits. If what is done in here fails, it is stopped again.

    Raises ``ContainerError``; ``HostError`` where there is no systemd.
    """
    linux = config["linux"]
    above, unit = name(linux.get("cgroupsPath") or "", container_id, user=user)
    with systemd.connect(user=user) as bus, _placeholder() as pid:
        properties = [
            ("Description", dbus.Variant("s", f"container {container_id}")),
            ("Slice", dbus.Variant("s", above)),
            ("PIDs", dbus.Variant("au", [pid])),
            ("Delegate", dbus.Variant("b", True)),
            ("DefaultDependencies", dbus.Variant("b", False)),
            *((f"{kind}Accounting", dbus.Variant("b", True)) for kind in _accounts()),
            *changes(linux.get("resources") or {}, container.device_rules(config)),
        ]
        try:
            systemd.forget(bus, unit)
            systemd.start_scope(bus, unit, properties)
            found = Scope(bus, unit, systemd.cgroup_of(bus, unit))
        except OSError as exc:
            raise errors.ContainerError(f"systemd gives no cgroup: `{unit}`: {exc.strerror}") from exc
        try:
            yield found
        except BaseException:
            with contextlib.suppress(OSError):
                systemd.stop(bus, unit)
            raise


def _accounts() -> tuple[str, ...]:
    return "CPU", "Memory", "Tasks", "IO" if cgroup.place().version == 2 else "BlockIO"


def changes(limits: dict[str, Any], rules: list[devicerules.Rule] | None) -> systemd.Properties:
    """``rules``: None to leave the devices as they are."""
    found = systemd.limits(limits, version=cgroup.place().version)
    return found if rules is None else found + systemd.devices(rules)


@contextlib.contextmanager
def _placeholder() -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        linux_process.prctl(linux_process.PR_SET_PDEATHSIG, signal.SIGKILL)
        while True:
            signal.pause()
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def stop(unit: str, *, user: bool) -> None:
    with systemd.connect(user=user) as bus:
        systemd.stop(bus, unit)


def change(unit: str, properties: systemd.Properties, *, user: bool) -> None:
    with systemd.connect(user=user) as bus:
        systemd.change(bus, unit, properties)
