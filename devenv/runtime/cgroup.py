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

import contextlib
import errno
import functools
import os
import signal
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from devenv import errors
from devenv.linux import bpf, namespace
from devenv.runtime import cgroupmarks, devicerules, resources
from devenv.runtime import limits as limits_table
from devenv.util import fs

_ATTEMPTS = 20
ROOT = "/sys/fs/cgroup"
# What `devenv doctor` and its limits speak of; a container gets a cgroup in every hierarchy that is mounted.
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb", "rdma")

# Weights of single disks, which that I/O scheduler alone has.
_OF_BFQ = frozenset({"blkio.weight_device", "io.bfq.weight"})
_V1_NAMES = {"io": "blkio"}


class Place(NamedTuple):
    """Where containers' cgroups are made: controller -> folder; "" is the unified hierarchy, if it is mounted."""

    version: int  # 1 or 2; 0 where there is nothing we may write to
    hierarchies: dict[str, str]  # beneath them the relative paths
    reason: str = ""  # why limits can't be had
    roots: Mapping[str, str] = MappingProxyType({})  # beneath them the absolute ones

    def folders(self, path: str) -> dict[str, str]:
        """Controller -> the folder of ``path``: one of devenv's own, or an absolute one of the OCI's cgroupsPath."""
        bases = self.roots if path.startswith("/") else self.hierarchies
        return {name: _join(base, f"/{path.strip('/')}") for name, base in bases.items()}


_place: Place | None = None


def place() -> Place:
    """Found once a process: it can't change under us."""
    global _place  # noqa: PLW0603
    if _place is None:
        _place = _find()
    return _place


def moved() -> None:
    """The process is in another cgroup now."""
    global _place  # noqa: PLW0603
    _place = None


def could_be_handed_over() -> bool:
    """Whether v2 is all there is, controllers of v1 can't be delegated; and where we are isn't ours alone."""
    mounted = _mounted().keys()
    return "" in mounted and not mounted - {"", "systemd"} and not _handed_over(place().hierarchies.get("", "/"))


def keep(file: str) -> None:
    """One place for all engines of a project, whichever session each was started from: the first one's."""
    global _place  # noqa: PLW0603
    kept = fs.read_json(file)
    if isinstance(kept, dict):
        first = Place(kept["version"], kept["hierarchies"], roots=kept["roots"])
        if all(os.access(folder, os.W_OK) for folder in first.hierarchies.values()):
            _place = first
            return
    if place().version:
        here = place()
        fs.write_json(file, {"version": here.version, "hierarchies": here.hierarchies, "roots": dict(here.roots)})


def _find() -> Place:
    own, mounted = _own_cgroups(), _mounted()
    v1 = {name: found for name, found in mounted.items() if name and name in own}
    if v1:
        folders = {name: _join(base, _beneath(root, own[name])) for name, (base, root) in v1.items()}
        writable = {name: folder for name, folder in folders.items() if os.access(folder, os.W_OK)}
        if writable:
            return Place(1, writable, roots={name: v1[name][0] for name in writable})
        if os.geteuid() == 0 and namespace.in_initial_user_namespace():
            return Place(0, {}, "the cgroup v1 hierarchies can't be written to in this container")
        return Place(0, {}, "cgroup v1 can't be delegated to a user: boot with systemd.unified_cgroup_hierarchy=1")
    if "" not in mounted:
        return Place(0, {}, "no cgroup hierarchy is mounted at /sys/fs/cgroup")
    base, root = mounted[""]
    return _delegated(base, _join(base, _beneath(root, own.get("", "/"))))


def _mounted() -> dict[str, tuple[str, str]]:
    """Controller -> mount point, and what of the hierarchy is shown there ("/", but for a container's)."""
    found: dict[str, tuple[str, str]] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            kind, _, options = rest.split()[:3]
            if kind not in {"cgroup", "cgroup2"}:
                continue
            root, point = fields.split()[3:5]
            if kind == "cgroup2":
                found.setdefault("", (point, root))
                continue
            for option in options.split(","):
                if option not in {"rw", "ro", "xattr", "noprefix", "clone_children"}:
                    found.setdefault(option.removeprefix("name="), (point, root))
    return found


def _beneath(root: str, path: str) -> str:
    return path.removeprefix(root.rstrip("/")) or "/"


def _delegated(top: str, own: str) -> Place:
    """The unit that systemd has handed over, or the highest folder from our own upwards that we may make cgroups in."""
    best = ""
    folder = own
    while folder.startswith(top) and os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK):
        best = folder
        if _handed_over(folder):
            break
        if folder == top:
            break
        folder = os.path.dirname(folder)
    if not best:
        return Place(
            0,
            {},
            "no cgroup is delegated to this user, and the user's systemd gave none",
        )
    return Place(2, {"": best}, roots={"": top})


def _handed_over(folder: str) -> bool:
    """Whether it is a unit of `Delegate=yes`, beneath which systemd changes nothing (its CGROUP_DELEGATION document).

    So is a user's manager as a whole, and there systemd does.
    """
    if os.path.basename(folder).startswith("user@"):
        return False
    try:
        return os.getxattr(folder, "user.delegate") == b"1"
    except OSError:
        # Before systemd 251 there is no such mark.
        return folder.endswith(".scope") and os.path.basename(folder).startswith("devenv-")


def _join(folder: str, path: str) -> str:
    return folder if path == "/" else f"{folder}{path}"


def _own_cgroups() -> dict[str, str]:
    """Controller -> our path in its hierarchy; the unified one has the empty name."""
    found = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                found[controller.removeprefix("name=")] = path
    return found


def limits_available() -> dict[str, str]:
    """Controller -> why its limits can't be had here; empty when they can."""
    here = place()
    if here.version == 0:
        return dict.fromkeys(resources.CONTROLLERS, here.reason)
    if here.version == 1:
        return {
            name: ""
            if _V1_NAMES.get(name, name) in here.hierarchies
            else f"the cgroup v1 controller `{name}` is not there"
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


class Group(NamedTuple):
    folders: list[str]  # to join, one a hierarchy
    made: list[str]  # what `create` had to make, parents first


def create(
    path: str,
    limits: dict[str, Any],
    *,
    rules: list[devicerules.Rule],
    required: bool = True,
    alone: bool = False,
    parents: bool = False,
) -> Group:
    """Make the container's cgroups and set its limits: ``limits`` is the specification's ``linux.resources``.

    Raises ``ContainerError`` for a limit that can't be set; then nothing of it is left. ``required``: having no cgroup
    at all is an error if there are limits. ``alone``: so are processes of others in it, and its being frozen.
    ``parents``: those above it that have to be made are ``destroy``'s to remove, with the last that is in them.
    """
    here = place()
    if here.version == 0:
        if _needs(limits) and required:
            kinds = ", ".join(sorted(limits))
            raise errors.ContainerError(
                f"limits ({kinds}) can't be set here: {here.reason}",
                hint="`devenv doctor` shows what this machine gives",
            )
        return Group([], [])
    chosen = here.folders(path)
    made: list[str] = []
    try:
        if here.version == 2:
            _again(lambda: _make_v2(here, path, made))
        for folder in dict.fromkeys(chosen.values()):
            _again(functools.partial(_make, folder, made))
        if parents:
            cgroupmarks.put(set(made) - set(chosen.values()))
        if alone and pids(path):
            raise errors.ContainerError("container's cgroup is not empty")
        if alone and paused(path):
            raise errors.ContainerError("container's cgroup unexpectedly frozen: whoever joins it would never run")
        if here.version == 1 and "cpuset" in chosen:
            _inherit_cpuset(here.roots["cpuset"], chosen["cpuset"])
        apply(path, limits)
        restrict(path, rules)
    except BaseException:
        discard(made)
        raise
    return Group(list(dict.fromkeys(chosen.values())), made)


def discard(made: list[str]) -> None:
    """Undo what ``create`` made: whatever runs in there is killed. What others have come to use stays."""
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            _remove(folder)


def _make(folder: str, made: list[str]) -> None:
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for each in reversed(missing):
        try:
            os.mkdir(each, 0o755)
            made.append(each)
        except FileExistsError:
            continue


def apply(path: str, limits: dict[str, Any]) -> None:
    """Set limits of cgroups that are there. Raises ``ContainerError``."""
    if place().version == 2:
        _apply_v2(path, limits_table.v2(limits))
    else:
        _apply_v1(path, limits_table.v1(limits))


def change(path: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Other limits while processes run beneath them; those of ``before`` that are no more are taken back.

    Raises ``ContainerError``, also when more memory is in use than there may be: nobody is killed for that.
    """
    if place().version == 2:
        limit = (after.get("memory") or {}).get("limit") or 0
        if limit > 0:
            _shrink(place().folders(path)[""], limit)
        _apply_v2(path, limits_table.unset_v2(before, after) + limits_table.v2(after))
        return
    values = limits_table.unset_v1(before, after)
    for name, more in limits_table.v1(after).items():
        values.setdefault(name, []).extend(more)
    _apply_v1(path, values)


def _apply_v2(path: str, values: limits_table.Values) -> None:
    folder = place().folders(path)[""]
    for file, value in values:
        # Nothing can be written with no byte at all.
        _write_limit(f"{folder}/{file}", "\n" if value == limits_table.INHERIT else value)


def _apply_v1(path: str, limits: dict[str, limits_table.Values]) -> None:
    chosen = place().folders(path)
    for name, values in limits.items():
        if not values:
            continue
        if name not in chosen:
            raise errors.ContainerError(
                f"the limit `{values[0][0]}` needs the cgroup controller `{name}`, which this machine doesn't have"
            )
        ordered = _memory_order(chosen[name], values) if name == "memory" else values
        try:
            _write_limits(chosen[name], ordered)
        except errors.ContainerError:
            if name != "cpu":
                raise
            # Quota and period are weighed against the parent's after each of the two: the other way round, then.
            _write_limits(chosen[name], ordered[::-1])


def _write_limits(folder: str, values: limits_table.Values) -> None:
    for file, value in values:
        if value == limits_table.INHERIT:
            with open(f"{os.path.dirname(folder)}/{file}") as above:
                value = above.read().strip()  # noqa: PLW2901
        _write_limit(f"{folder}/{file}", value)


def _shrink(folder: str, limit: int) -> None:
    """v1 refuses a limit below what can't be freed; v2 kills, so it is freed, or refused, beforehand."""
    if _current(folder) <= limit:
        return
    high = f"{folder}/memory.high"
    with open(high) as file:
        before = file.read().strip()
    write(high, str(limit))
    try:
        if _current(folder) > limit:
            raise _too_small(limit)
    finally:
        write(high, before)


def _too_small(limit: int) -> errors.ContainerError:
    return errors.ContainerError(
        f"more memory is in use than the new limit of {limit / (1 << 20):.4g} MiB",
        hint="`--force-recreate` begins anew with that limit",
    )


def _current(folder: str) -> int:
    try:
        with open(f"{folder}/memory.current") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def _memory_order(folder: str, values: limits_table.Values) -> limits_table.Values:
    """Memory may never be above memory and swap together: which goes first depends on which way they go."""
    given = dict(values)
    both = given.get("memory.memsw.limit_in_bytes")
    if "memory.limit_in_bytes" not in given or both is None:
        return values
    try:
        with open(f"{folder}/memory.memsw.limit_in_bytes") as file:
            grows = int(both) < 0 or int(both) > int(file.read())
    except OSError:
        return values
    first = "memory.memsw.limit_in_bytes" if grows else "memory.limit_in_bytes"
    return sorted(values, key=lambda pair: pair[0] != first)


def restrict(path: str, rules: list[devicerules.Rule]) -> None:
    """Say which devices may be used. In a user namespace the kernel forbids both saying it and making nodes."""
    here = place()
    if not rules or not namespace.in_initial_user_namespace():
        return
    folder = here.folders(path).get("devices" if here.version == 1 else "")
    if folder is None:
        return
    if here.version == 1:
        _write_rules(folder, [rule.v1() for rule in rules])
        return
    allowed, exceptions = devicerules.settle(rules)
    if allowed and not exceptions:
        return
    target = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loaded = bpf.prog_load(bpf.BPF_PROG_TYPE_CGROUP_DEVICE, devicerules.program(rules), "devenv_devices")
        before = bpf.prog_query(target, bpf.BPF_CGROUP_DEVICE)
        bpf.prog_attach(target, loaded, bpf.BPF_CGROUP_DEVICE, bpf.BPF_F_ALLOW_MULTI)
        os.close(loaded)
        # All that are attached have to agree, so the former one would hold on to what was forbidden.
        for number in before:
            old = bpf.prog_get_fd_by_id(number)
            bpf.prog_detach(target, old, bpf.BPF_CGROUP_DEVICE)
            os.close(old)
    except OSError as exc:
        raise errors.ContainerError(f"the devices of the container can't be guarded: {exc.strerror}") from exc
    finally:
        os.close(target)


def _write_rules(folder: str, rules: list[tuple[str, str]]) -> None:
    """One write(2) for each: the kernel takes one rule at a time."""
    opened: dict[str, int] = {}
    try:
        for file, value in rules:
            if file not in opened:
                opened[file] = os.open(f"{folder}/{file}", os.O_WRONLY | os.O_CLOEXEC)
            os.write(opened[file], value.encode())
    except OSError as exc:
        raise errors.ContainerError(f"the devices of the container can't be guarded: {exc.strerror}") from exc
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _again(make: Callable[[], None]) -> None:
    """Another project's last container takes the folder above along as ours is made in it: then once more."""
    for _ in range(_ATTEMPTS):
        try:
            return make()
        except FileNotFoundError:
            continue
    return make()


def _needs(limits: dict[str, Any]) -> bool:
    return any(limits.get(kind) for kind in ("memory", "cpu", "pids"))


def _make_v2(here: Place, path: str, made: list[str]) -> None:
    absolute = path.startswith("/")
    base = here.roots[""] if absolute else here.hierarchies[""]
    if not absolute:
        _clear_the_way(base)
    folder = base
    for part in path.strip("/").split("/"):
        _pass_controllers_on(folder)
        folder = f"{folder}/{part}"
        _make(folder, made)


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


def _inherit_cpuset(base: str, folder: str) -> None:
    """On v1 a new cpuset is empty, and nothing can join it until it is filled (cpuset(7))."""
    here = base
    for part in folder.removeprefix(base).strip("/").split("/"):
        parent, here = here, f"{here}/{part}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            with open(f"{here}/{file}") as current:
                if current.read().strip():
                    continue
            with open(f"{parent}/{file}") as above:
                write(f"{here}/{file}", above.read().strip())


def _write_limit(file: str, value: str) -> None:
    name = os.path.basename(file)
    # Since Linux 5.0 weights are the I/O scheduler's.
    bfq = f"{os.path.dirname(file)}/{name.replace('blkio.', 'blkio.bfq.', 1)}"
    if name in {"blkio.weight", "blkio.weight_device"} and os.path.exists(bfq):
        file = bfq
    try:
        write(file, value)
    except FileNotFoundError as exc:
        # Accounting of swap may be compiled out or off (`swapaccount=0`): Docker does without, too.
        if "swap" in name or "memsw" in file:
            return
        raise errors.ContainerError(
            f"this machine can't limit `{name}`", hint="`devenv doctor` shows what it can"
        ) from exc
    except OSError as exc:
        if exc.errno == errno.EBUSY and name == "memory.limit_in_bytes":
            raise _too_small(int(value)) from exc
        if exc.errno == errno.EOPNOTSUPP and name in _OF_BFQ:
            raise errors.ContainerError(
                f"`{name}` can't be set to `{value}`: that disk's I/O scheduler is not bfq",
                hint="echo bfq >/sys/block/DISK/queue/scheduler",
            ) from exc
        raise errors.ContainerError(f"`{name}` can't be set to `{value}`: {exc.strerror}") from exc


def write(file: str, value: str) -> None:
    # O_WRONLY without O_CREAT or O_TRUNC, which cgroupfs does not take.
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


# -- a container's cgroups, once they are there ------------------------------------------------------------------


def folders(path: str) -> list[str]:
    return [folder for folder in dict.fromkeys(place().folders(path).values()) if os.path.isdir(folder)]


def absolute(path: str) -> str:
    """A path of devenv's own for another runtime: from the hierarchies' roots.

    Where we have another name in each hierarchy of v1 it stays relative, which means to most what it does to us.
    """
    here = place()
    if path.startswith("/") or not here.hierarchies:
        return f"/{path.strip('/')}"
    found = {folder.removeprefix(here.roots[name]) for name, folder in here.folders(path).items()}
    return found.pop() if len(found) == 1 else path


def of_process(pid: int) -> list[str]:
    """The folders of the cgroups that a process is in, in every hierarchy that is mounted."""
    found: dict[str, None] = {}
    mounted = _mounted()
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            name = controllers.split(",")[0].removeprefix("name=")
            if name in mounted and path != "/":
                base, root = mounted[name]
                found[_join(base, _beneath(root, path))] = None
    return [folder for folder in found if os.path.exists(f"{folder}/cgroup.procs")]


def of_container(pid: int, container_id: str) -> dict[str, str]:
    """Controller -> the container's own folder, by one of its processes, whatever cgroup that has made for itself.

    Needs no ``place``, so it is right for whoever looks. "" is the unified hierarchy, where that is the only one.
    """
    mounted = _mounted()
    found = {}
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            above, own, _ = path.partition(f"/{container_id}")
            for name in controllers.split(",") if own else ():
                if name in mounted:
                    base, root = mounted[name]
                    found[name] = _join(base, _beneath(root, above + own))
    if len(found) > 1:
        found.pop("", None)
    return found


def beneath(paths: list[str], path: str) -> list[str]:
    """The cgroup ``path`` of each of these cgroups, made if need be."""
    found = []
    for folder in paths:
        inner = os.path.normpath(f"{folder}/{path}")
        os.makedirs(inner, mode=0o755, exist_ok=True)
        if os.path.exists(f"{inner}/cpuset.cpus"):
            _inherit_cpuset(folder, inner)
        found.append(inner)
    return found


def join(paths: list[str]) -> None:
    """Move the calling process, which has one thread; 0 stands for it."""
    for folder in paths:
        try:
            # As a thread, which v1 lets us: the kernel moves whole processes only after a grace period of RCU, 5 to
            # 20 ms (cgroup_procs_write_start in kernel/cgroup/cgroup.c).
            write(f"{folder}/tasks", "0")
        except FileNotFoundError:
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
    chosen = here.folders(path)
    if here.version == 2:
        file, words, seen = "cgroup.freeze", ("0", "1"), f"{chosen['']}/cgroup.events"
        folder = chosen[""]
    elif "freezer" in chosen:
        file, words, seen = "freezer.state", ("THAWED", "FROZEN"), f"{chosen['freezer']}/freezer.state"
        folder = chosen["freezer"]
    else:
        raise errors.ContainerError(
            "this machine can't pause containers: no freezer cgroup may be used", hint="see `devenv doctor`"
        )
    write(f"{folder}/{file}", words[frozen])
    for attempt in range(2000):
        if is_frozen(seen) == frozen:
            return
        # v1: a process that forks while it is frozen leaves the whole group "FREEZING" until it is asked again.
        if here.version == 1 and attempt % 50 == 49:
            write(f"{folder}/{file}", words[not frozen])
            write(f"{folder}/{file}", words[frozen])
        time.sleep(0.001)
    write(f"{folder}/{file}", "THAWED" if here.version == 1 else "0")
    raise errors.ContainerError("the container's processes can't be frozen")


def thaw(pid: int, path: str) -> None:
    """So that what was sent SIGKILL dies, which a frozen process of cgroup v1 does not.

    ``pid`` may have been moved elsewhere, and others of the container frozen further down.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for folder in of_process(pid):
            _thaw(folder)
    _thaw_all(path)


def is_frozen(file: str) -> bool:
    with open(file) as text:
        content = text.read()
    return content == "FROZEN\n" or "frozen 1\n" in content


def paused(path: str) -> bool:
    """Whether the container is paused."""
    here = place()
    folder = here.folders(path).get("freezer" if here.version == 1 else "")
    if not folder:
        return False
    try:
        return is_frozen(f"{folder}/{'freezer.state' if here.version == 1 else 'cgroup.events'}")
    except OSError:
        return False


def oom_kills(path: str) -> int:
    here = place()
    file = {1: "memory.oom_control", 2: "memory.events"}.get(here.version, "")
    folder = here.folders(path).get("memory" if here.version == 1 else "")
    if not folder or not file:
        return 0
    try:
        with open(f"{folder}/{file}") as text:
            for line in text:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except OSError:
        pass
    return 0


def destroy(path: str) -> None:
    """Kill what is left in the cgroups and remove them; also those above that devenv has made, if they are empty.

    Raises ``OSError`` for one that stays.
    """
    here = place()
    if pids(path):
        _kill_at_once(path)
    # Everywhere, first: a process that one hierarchy has frozen doesn't die in any.
    _thaw_all(path)
    stays: OSError | None = None
    for name, folder in here.folders(path).items():
        if not os.path.isdir(folder):
            continue
        for each, _, _ in os.walk(folder, topdown=False):
            try:
                _remove(each)
            except OSError as exc:
                stays = exc
        rooted = path.startswith("/")
        base = (here.roots if rooted else here.hierarchies)[name]
        while (folder := os.path.dirname(folder)) != base and (not rooted or cgroupmarks.there(folder)):
            try:
                os.rmdir(folder)
            except OSError:
                break
    if stays is not None:
        raise stays


def _kill_at_once(path: str) -> None:
    """All of them with none left to fork another, as a fork bomb's would for as long as they are killed in turn."""
    for folder in folders(path):
        try:
            write(f"{folder}/cgroup.kill", "1")  # v2 since Linux 5.14
            return
        except OSError:
            continue
    with contextlib.suppress(errors.ContainerError, OSError):
        freeze(path, frozen=True)
    kill(path, signal.SIGKILL)


def prune(path: str) -> None:
    """Remove the empty cgroups that another runtime leaves, also where we make none: in a hybrid's unified hierarchy.

    Some take a relative path as beneath their own cgroup in one hierarchy, and as beneath the root in another.
    """
    here = place()
    for base in {*here.hierarchies.values(), *(point for point, _ in _mounted().values())}:
        folder = _join(base, f"/{path.strip('/')}")
        while folder != base:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                break  # others' are in there
            folder = os.path.dirname(folder)


def _thaw_all(path: str) -> None:
    for folder in folders(path):
        for each, _, _ in os.walk(folder):
            _thaw(each)


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
