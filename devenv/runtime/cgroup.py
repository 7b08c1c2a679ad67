"""Control groups, v1 and v2: one for each container, with its limits; killing, freezing and what the kernel counted.

A container's cgroup lies beneath the place where devenv itself runs, so that a delegated subtree (systemd's
``user@.service``) is all that is needed. On v1 and on a hybrid there is one in every hierarchy that matters; on v2
devenv first moves out of the way, because a cgroup that has processes can't pass controllers on (cgroups(7), "no
internal processes").

    v2     <delegated>/devenv.engine            supervisor, monitor, proxy
           <delegated>/devenv/<project>/<id>    the container
    v1     <hierarchy>/<own>/devenv/<project>/<id>
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from devenv import errors
from devenv.runtime import resources

T = TypeVar("T")

_ATTEMPTS = 20
ROOT = "/sys/fs/cgroup"
V1 = ("memory", "cpu", "cpuacct", "cpuset", "pids", "devices", "freezer")
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
# What a process may do with devices: c 1:3 null … 5:2 ptmx, 136:* pts; mknod of any (Docker's list).
_DEVICES = (
    "c *:* m",
    "b *:* m",
    *(f"c {number} rwm" for number in ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2", "136:*", "10:200")),
)


class Place(NamedTuple):
    """Where containers' cgroups are made. ``hierarchies``: controller -> folder, "" for the unified one."""

    version: int  # 1 or 2; 0 where there is nothing we may write to
    hierarchies: dict[str, str]
    reason: str = ""  # why limits can't be had


_place: Place | None = None


def place() -> Place:
    """Found once a process: it can't change under us."""
    global _place  # noqa: PLW0603
    if _place is None:
        _place = _find()
    return _place


def _find() -> Place:
    own = _own_cgroups()
    v1 = {}
    for controller in V1:
        for mounted in (controller, "cpu,cpuacct" if controller in {"cpu", "cpuacct"} else controller):
            folder = f"{ROOT}/{mounted}"
            if controller in own and os.path.isdir(folder):
                v1[controller] = _join(folder, own[controller])
                break
    if v1:
        writable = {name: folder for name, folder in v1.items() if os.access(folder, os.W_OK)}
        if writable:
            return Place(1, writable)
        return Place(0, {}, "cgroup v1 can't be delegated to a user: boot with systemd.unified_cgroup_hierarchy=1")
    if not os.path.exists(f"{ROOT}/cgroup.controllers"):
        return Place(0, {}, "no cgroup hierarchy is mounted at /sys/fs/cgroup")
    return _delegated(_join(ROOT, own.get("", "/")))


def _delegated(own: str) -> Place:
    """The highest folder from our own upwards that we may make cgroups in."""
    best = ""
    folder = own
    while folder.startswith(ROOT) and os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK):
        best = folder
        if folder == ROOT:
            break
        folder = os.path.dirname(folder)
    if not best:
        return Place(
            0,
            {},
            "no cgroup is delegated to this user: log in through systemd, or run "
            "`systemd-run --user --scope -p Delegate=yes devenv …`",
        )
    return Place(2, {"": best})


def _join(folder: str, path: str) -> str:
    return folder if path == "/" else f"{folder}{path}"


def _own_cgroups() -> dict[str, str]:
    """Controller -> our path in its hierarchy; the unified one has the empty name."""
    found = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


def limits_available() -> dict[str, str]:
    """Controller -> why its limits can't be had here; empty when they can."""
    here = place()
    if here.version == 0:
        return dict.fromkeys(resources.CONTROLLERS, here.reason)
    if here.version == 1:
        return {
            name: "" if name in here.hierarchies else f"the cgroup v1 controller `{name}` is not there"
            for name in resources.CONTROLLERS
        }
    try:
        with open(f"{here.hierarchies['']}/cgroup.controllers") as file:
            there = file.read().split()
    except OSError:
        there = []
    return {
        name: "" if name in there else f"the controller `{name}` is not delegated to this user"
        for name in resources.CONTROLLERS
    }


def create(path: str, limits: dict[str, Any], *, devices: list[str] | None = None) -> list[str]:
    """Make the container's cgroups and set its limits; the folders to join.

    ``limits`` is the specification's ``linux.resources``. Raises ``ContainerError`` for a limit that can't be set.
    """
    here = place()
    folders = []
    if here.version == 2:
        folders.append(_again(lambda: _create_v2(here.hierarchies[""], path, limits)))
    for name, base in here.hierarchies.items() if here.version == 1 else ():
        folder = f"{base}/{path}"
        _again(lambda folder=folder: os.makedirs(folder, mode=0o755, exist_ok=True))  # type: ignore[misc]
        folders.append(folder)
        if name == "cpuset":
            _inherit_cpuset(base, path)
        for file, value in _v1_values(name, limits, devices):
            _write_limit(f"{folder}/{file}", value)
    if here.version == 0 and _needs(limits):
        kinds = ", ".join(sorted(limits))
        raise errors.ContainerError(
            f"limits ({kinds}) can't be set here: {here.reason}", hint="`devenv doctor` shows what this machine gives"
        )
    return folders


def _again(make: Callable[[], T]) -> T:
    """Another project's last container takes the folder above along as ours is made in it: then once more."""
    for _ in range(_ATTEMPTS):
        try:
            return make()
        except FileNotFoundError:
            continue
    return make()


def _needs(limits: dict[str, Any]) -> bool:
    return any(limits.get(kind) for kind in ("memory", "cpu", "pids"))


def _create_v2(base: str, path: str, limits: dict[str, Any]) -> str:
    _clear_the_way(base)
    folder = base
    for part in path.split("/"):
        _pass_controllers_on(folder)
        folder = f"{folder}/{part}"
        os.makedirs(folder, mode=0o755, exist_ok=True)
    for file, value in _v2_values(limits):
        _write_limit(f"{folder}/{file}", value)
    return folder


def _clear_the_way(base: str) -> None:
    """Processes of ours in ``base`` go into a leaf, or no controller could be passed on; root's own is exempt."""
    if base == ROOT:
        return
    with open(f"{base}/cgroup.procs") as file:
        pids = file.read().split()
    if not pids:
        return
    leaf = f"{base}/devenv.engine"
    os.makedirs(leaf, exist_ok=True)
    for pid in pids:
        try:
            write(f"{leaf}/cgroup.procs", pid)
        except OSError:
            continue


def _pass_controllers_on(folder: str) -> None:
    with open(f"{folder}/cgroup.controllers") as file:
        there = file.read().split()
    for name in _V2_CONTROLLERS:
        if name in there:
            try:
                write(f"{folder}/cgroup.subtree_control", f"+{name}")
            except OSError as exc:
                # EBUSY: someone else's processes are in it. A limit that needs it says so by itself.
                if exc.errno not in {errno.EBUSY, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP}:
                    raise


def _v2_values(limits: dict[str, Any]) -> list[tuple[str, str]]:
    memory, cpu, pids = limits.get("memory", {}), limits.get("cpu", {}), limits.get("pids", {})
    values = []
    if memory.get("limit"):
        values.append(("memory.max", _or_max(memory["limit"])))
        swap = memory.get("swap")
        if swap is not None:
            values.append(("memory.swap.max", "max" if swap < 0 else str(max(0, swap - memory["limit"]))))
    if memory.get("reservation"):
        values.append(("memory.low", str(memory["reservation"])))
    if cpu.get("quota") or cpu.get("period"):
        values.append(("cpu.max", f"{_or_max(cpu.get('quota') or -1)} {cpu.get('period') or 100000}"))
    if cpu.get("shares"):
        values.append(("cpu.weight", str(resources.shares_to_weight(cpu["shares"]))))
    if cpu.get("cpus"):
        values.append(("cpuset.cpus", cpu["cpus"]))
    if pids.get("limit"):
        values.append(("pids.max", _or_max(pids["limit"])))
    return values


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _v1_values(name: str, limits: dict[str, Any], devices: list[str] | None) -> list[tuple[str, str]]:
    memory, cpu, pids = limits.get("memory", {}), limits.get("cpu", {}), limits.get("pids", {})
    table: dict[str, list[tuple[str, Any]]] = {
        "memory": [
            ("memory.limit_in_bytes", memory.get("limit")),
            ("memory.memsw.limit_in_bytes", memory.get("swap")),
            ("memory.soft_limit_in_bytes", memory.get("reservation")),
            ("memory.swappiness", memory.get("swappiness")),
            ("memory.oom_control", 1 if memory.get("disableOOMKiller") else None),
        ],
        "cpu": [
            ("cpu.cfs_period_us", cpu.get("period")),
            ("cpu.cfs_quota_us", cpu.get("quota")),
            ("cpu.shares", cpu.get("shares")),
        ],
        "cpuset": [("cpuset.cpus", cpu.get("cpus"))],
        "pids": [("pids.max", None if pids.get("limit") is None else _or_max(pids["limit"]))],
    }
    if name == "devices" and devices is not None:
        rules = [("devices.deny", "a"), *(("devices.allow", rule) for rule in (*_DEVICES, *devices))]
        return [(file, str(value)) for file, value in rules]
    return [(file, str(value)) for file, value in table.get(name, []) if value is not None]


def _inherit_cpuset(base: str, path: str) -> None:
    """On v1 a new cpuset is empty, and nothing can join it until it is filled (cpuset(7))."""
    folder = base
    for part in path.split("/"):
        parent, folder = folder, f"{folder}/{part}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            with open(f"{folder}/{file}") as current:
                if current.read().strip():
                    continue
            with open(f"{parent}/{file}") as above:
                write(f"{folder}/{file}", above.read().strip())


def _write_limit(file: str, value: str) -> None:
    try:
        write(file, value)
    except FileNotFoundError as exc:
        # Accounting of swap may be compiled out or off (`swapaccount=0`): Docker does without, too.
        if "swap" in os.path.basename(file) or "memsw" in file:
            return
        raise errors.ContainerError(
            f"this machine can't limit `{os.path.basename(file)}`", hint="`devenv doctor` shows what it can"
        ) from exc
    except OSError as exc:
        raise errors.ContainerError(f"`{os.path.basename(file)}` can't be set to `{value}`: {exc.strerror}") from exc


def write(file: str, value: str) -> None:
    # O_WRONLY without O_CREAT or O_TRUNC, which cgroupfs does not take.
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


# -- a container's cgroups, once they are there ------------------------------------------------------------------


def folders(path: str) -> list[str]:
    return [folder for base in place().hierarchies.values() if os.path.isdir(folder := f"{base}/{path}")]


def of_process(pid: int) -> list[str]:
    """The folders of the cgroups that a process is in, in every hierarchy that is mounted."""
    found = []
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            base = f"{ROOT}/{controllers}" if controllers else ROOT
            if os.path.exists(f"{base}/cgroup.procs") and path != "/":
                found.append(_join(base, path))
    return found


def join(paths: list[str]) -> None:
    """Move the calling process; 0 stands for it."""
    for folder in paths:
        write(f"{folder}/cgroup.procs", "0")


def pids(path: str) -> list[int]:
    for folder in folders(path):
        found: list[int] = []
        for here, _, _ in os.walk(folder):
            with open(f"{here}/cgroup.procs") as file:
                found += [int(pid) for pid in file.read().split()]
        return found
    return []


def kill(path: str, number: int) -> None:
    for pid in pids(path):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def freeze(path: str, *, frozen: bool) -> None:
    """Raises ``ContainerError`` where there is no freezer. Returns once the kernel says it is done."""
    here = place()
    if here.version == 2:
        folder = f"{here.hierarchies['']}/{path}"
        write(f"{folder}/cgroup.freeze", "1" if frozen else "0")
        return
    if "freezer" not in here.hierarchies:
        raise errors.ContainerError(
            "this machine can't pause containers: no freezer cgroup may be used", hint="see `devenv doctor`"
        )
    folder = f"{here.hierarchies['freezer']}/{path}"
    write(f"{folder}/freezer.state", "FROZEN" if frozen else "THAWED")


def oom_kills(path: str) -> int:
    here = place()
    file = {1: "memory.oom_control", 2: "memory.events"}.get(here.version, "")
    base = here.hierarchies.get("memory" if here.version == 1 else "")
    if not base or not file:
        return 0
    try:
        with open(f"{base}/{path}/{file}") as text:
            for line in text:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except OSError:
        pass
    return 0


def destroy(path: str) -> None:
    """Kill what is left in the container's cgroups and remove them, with the project's when it is the last."""
    # Everywhere, first: a process that one hierarchy has frozen doesn't die in any.
    for folder in folders(path):
        for here, _, _ in os.walk(folder):
            _thaw(here)
    stays: OSError | None = None
    for base in place().hierarchies.values():
        folder = f"{base}/{path}"
        if not os.path.isdir(folder):
            continue
        for here, _, _ in os.walk(folder, topdown=False):
            try:
                _remove(here)
            except OSError as exc:
                stays = exc
        while (folder := os.path.dirname(folder)) != base:
            try:
                os.rmdir(folder)
            except OSError:
                break
    if stays is not None:
        raise stays


def _thaw(folder: str) -> None:
    for file, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        try:
            write(f"{folder}/{file}", word)
        except OSError:
            continue  # not a hierarchy that can freeze


def _remove(folder: str) -> None:
    """A cgroup stays busy for a moment after its last process has gone. Raises ``OSError`` for one that stays."""
    for attempt in range(200):
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
        if attempt % 20 == 0:
            with open(f"{folder}/cgroup.procs") as file:
                for pid in file.read().split():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        continue
        time.sleep(0.001)
    raise OSError(errno.EBUSY, "its processes do not end", folder)
