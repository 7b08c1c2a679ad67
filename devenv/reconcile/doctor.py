"""What this machine gives and lacks, as data: one ``Check`` a thing, with the line that mends it.

The checks read through a ``Machine``, so that tests can describe any machine, and try the thing itself where that is
cheap (``trials``). A check never raises: what can't be looked at is a warning that says so.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from devenv.reconcile import trials
from devenv.runtime import capabilities, cgroup, delegation, fuseoverlay, seccomp_rules
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

    def release(self) -> str:
        return os.uname().release

    def architecture(self) -> str | None:
        return seccomp_rules.native()

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


_NEEDED = (
    "SYS_ADMIN NET_ADMIN SYS_PTRACE SYS_CHROOT SETUID SETGID SETPCAP SETFCAP CHOWN FOWNER DAC_OVERRIDE FSETID KILL"
).split()
# What compose files, docker and podman call it.
_MORE_RIGHTS = (
    "in a container, give it `privileged: true`, or `cap_add: [SYS_ADMIN, NET_ADMIN, SYS_PTRACE]` and "
    "`security_opt: [seccomp:unconfined]`"
)


def _install(machine: Machine, **names: str) -> str:
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


def _sysctl(machine: Machine, setting: str, value: int) -> str:
    return f"{'sudo ' if machine.rootless else ''}sysctl -w {setting}={value}"


# -- the machine --------------------------------------------------------------------------------------------------


def kernel(machine: Machine) -> Check:
    release = machine.release()
    version = _version(release)
    if version < (5, 6):
        return Check("kernel", Status.FAIL, f"Linux {release}", "Linux 5.6 or newer is needed (openat2, pidfd)")
    if version < (5, 12):
        fix = "Linux 5.12 or newer is recommended (overlayfs in user namespaces, mount_setattr)"
        return Check("kernel", Status.WARN, f"Linux {release}", fix)
    note = (
        "" if version >= (6, 15) else "; exit codes of containers that outlive a killed monitor are unknown before 6.15"
    )
    return Check("kernel", Status.OK, f"Linux {release}{note}")


def _version(release: str) -> tuple[int, int]:
    """Major and minor; (0, 0) for a release that does not begin with them."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def python(machine: Machine) -> Check:
    version = ".".join(str(number) for number in sys.version_info[:3])
    return Check("python", Status.OK, f"{version} ({sys.executable})")


def namespaces(machine: Machine) -> Check | None:
    if machine.rootless:
        return None
    problem = machine.attempt(trials.all_namespaces)
    if problem is None:
        return Check("namespaces", Status.OK, "mount, pid, network, ipc, uts and cgroup")
    return Check("namespaces", Status.FAIL, _words(problem), _MORE_RIGHTS)


def rights(machine: Machine) -> Check | None:
    """Root in a container is not the root that the kernel knows."""
    held = machine.capabilities()
    if machine.rootless or held is None:
        return None
    lacking = [name for name in _NEEDED if not held >> capabilities.NAMES.index(f"CAP_{name}") & 1]
    if not lacking:
        return Check("capabilities", Status.OK, "all that devenv needs as root")
    return Check("capabilities", Status.FAIL, f"root lacks {', '.join(lacking)}", _MORE_RIGHTS)


def user_namespaces(machine: Machine) -> Check:
    problem = machine.attempt(trials.user_namespace) if machine.rootless else None
    if machine.rootless and problem is None:
        return Check("user namespaces", Status.OK, "can be made, and give the powers they should")
    cause, fix = _user_namespace_setting(machine)
    if not machine.rootless:
        if cause:
            return Check("user namespaces", Status.WARN, f"{cause}: ordinary users can't run devenv", fix)
        return Check("user namespaces", Status.OK, "open to ordinary users; not needed as root")
    assert problem is not None
    found = f"{_words(problem)}; {cause}" if cause else _words(problem)
    return Check("user namespaces", Status.FAIL, found, fix or "run as root, or ask for user namespaces")


def proc(machine: Machine) -> Check | None:
    """Docker and podman mask parts of a container's /proc: then it can't be mounted anew in a user namespace."""
    problem = machine.attempt(trials.proc) if machine.rootless else None
    if not machine.rootless:
        return None
    if problem is None:
        return Check("/proc", Status.OK, "each service can have its own")
    fix = (
        "in a container, start that with `security_opt: [systempaths=unconfined]` (podman: `--security-opt unmask=ALL`)"
    )
    return Check("/proc", Status.WARN, f"{_words(problem)}: services see the processes around devenv", fix)


def _user_namespace_setting(machine: Machine) -> tuple[str, str]:
    """The setting that forbids them and the line that changes it."""
    closed = (
        ("user.max_user_namespaces", 0, 15000),
        ("kernel.unprivileged_userns_clone", 0, 1),
        ("kernel.apparmor_restrict_unprivileged_userns", 1, 0),
    )
    for setting, bad, good in closed:
        if machine.number("/proc/sys/" + setting.replace(".", "/")) == bad:
            return f"{setting} is {bad}", _sysctl(machine, setting, good)
    return "", ""


def id_ranges(machine: Machine) -> Iterator[Check]:
    """Without a range there is one id inside, the user's own: files of other owners and `user:` do not work."""
    if not machine.rootless:
        return
    name = "id ranges"
    texts = {file: machine.read(f"/etc/{file}") or "" for file in ("subuid", "subgid")}
    ranges = {file: _ranges(text, machine.user, machine.uid) for file, text in texts.items()}
    unlisted = [file for file, found in ranges.items() if not found]
    if unlisted:
        start = _free_start(texts.values())
        options = " ".join(f"--add-{file}s {start}-{start + 65535}" for file in unlisted)
        where = " and ".join(f"/etc/{file}" for file in unlisted)
        found = f"`{machine.user}` has no range in {where}: only one id inside"
        yield Check(name, Status.WARN, found, f"sudo usermod {options} {machine.user}")
    lacking = [program for program in ("newuidmap", "newgidmap") if machine.which(program) is None]
    if lacking:
        fix = _install(machine, apt="uidmap", dnf="shadow-utils", pacman="shadow", zypper="shadow", apk="shadow-uidmap")
        yield Check(name, Status.WARN, f"no {' and no '.join(lacking)}", fix)
        return
    if unlisted:
        return
    start, count = ranges["subuid"][0]
    problem = machine.id_ranges((start, count), ranges["subgid"][0])
    if problem is None:
        yield Check(name, Status.OK, f"{count} ids from {start}")
        return
    program = machine.which("newuidmap") or "newuidmap"
    fix = "" if machine.is_privileged(program) else f"sudo chmod u+s {program} {machine.which('newgidmap')}"
    yield Check(name, Status.WARN, f"{_words(problem)}: only one id inside", fix or "mend /etc/subuid and /etc/subgid")


def _ranges(text: str, user: str, uid: int) -> list[tuple[int, int]]:
    found = []
    for line in text.splitlines():
        owner, _, rest = line.strip().partition(":")
        start, _, count = rest.partition(":")
        if owner in {user, str(uid)} and start.isdigit() and count.isdigit() and int(count) > 0:
            found.append((int(start), int(count)))
    return found


def _free_start(texts: Iterable[str]) -> int:
    """Behind every range that somebody has."""
    end = 100000
    for text in texts:
        for line in text.splitlines():
            parts = line.strip().split(":")
            if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
                end = max(end, int(parts[1]) + int(parts[2]))
    return end


# -- files --------------------------------------------------------------------------------------------------------


def overlayfs(machine: Machine) -> Iterator[Check]:
    """Tried on the filesystem of the data folder: an overlay's upper folder can't be on NFS or on another overlay."""
    place = machine.existing(machine.where.data)
    if not os.access(place, os.W_OK | os.X_OK):
        return  # which the check of the folders tells
    folder = tempfile.mkdtemp(prefix=".devenv-doctor-", dir=place)
    try:
        problem = machine.attempt(lambda: trials.overlay(folder, rootless=machine.rootless))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    name = "overlayfs in a user namespace" if machine.rootless else "overlayfs"
    if problem is None:
        yield Check(name, Status.OK, f"works on {machine.mount_of(place).kind}")
        return
    if not machine.rootless and problem.errno == errno.EPERM:
        yield Check(name, Status.FAIL, _words(problem), _MORE_RIGHTS)
        return
    if "overlay" not in (machine.read("/proc/filesystems") or ""):
        fix = "sudo modprobe overlay" if machine.rootless else "modprobe overlay"
    else:
        fix = "set DEVENV_DATA_HOME to a folder on ext4, xfs, btrfs or tmpfs"
    stands_in = machine.which(fuseoverlay.PROGRAM) is not None and os.access(fuseoverlay.DEVICE, os.R_OK | os.W_OK)
    yield Check(name, Status.WARN if stands_in else Status.FAIL, _words(problem), fix)
    if machine.which(fuseoverlay.PROGRAM) is None:
        yield Check("fuse-overlayfs", Status.WARN, "not installed", _install(machine, apt="fuse-overlayfs"))
    elif not stands_in:
        fix = f"{'sudo ' * machine.rootless}modprobe fuse && {'sudo ' * machine.rootless}chmod 666 /dev/fuse"
        yield Check("fuse-overlayfs", Status.WARN, "/dev/fuse can't be opened", f"{fix}; in a container, give it that")
    else:
        yield Check("fuse-overlayfs", Status.OK, "stands in for the kernel's overlay, and is slower")


def idmapped_layers(machine: Machine) -> Check | None:
    """Tried on the filesystem of the data folder, for `userns_mode: auto`."""
    place = machine.existing(machine.where.data)
    if machine.rootless or not os.access(place, os.W_OK | os.X_OK):
        return None
    folder = tempfile.mkdtemp(prefix=".devenv-doctor-", dir=place)
    try:
        problem = machine.attempt(lambda: trials.idmapped(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if problem is None:
        return Check("id-mapped layers", Status.OK, "work: `userns_mode: auto` can be had")
    if problem.errno == errno.EPERM:
        fix = _MORE_RIGHTS
    elif _version(machine.release()) < (5, 19):
        fix = "Linux 5.19 or newer is needed for `userns_mode: auto`"
    else:
        fix = "for `userns_mode: auto`, set DEVENV_DATA_HOME to a folder on ext4, xfs or btrfs"
    return Check("id-mapped layers", Status.WARN, _words(problem), fix)


def folders(machine: Machine) -> Iterator[Check]:
    for name, path, variable in (
        ("data folder", machine.where.data, "DEVENV_DATA_HOME"),
        ("runtime folder", machine.where.run, "DEVENV_RUNTIME_DIR"),
    ):
        place = machine.existing(path)
        mounted = machine.mount_of(place)
        found = f"{path} ({mounted.kind})"
        fix = f"set {variable} to a folder of your own on a local filesystem"
        if not os.access(place, os.W_OK | os.X_OK):
            yield Check(name, Status.FAIL, f"{found}: `{place}` is not writable", fix)
        elif os.path.isdir(path) and os.stat(path).st_uid != machine.uid:
            yield Check(name, Status.FAIL, f"{found}: belongs to another user", fix)
        elif mounted.kind in {"nfs", "nfs4", "cifs", "9p", "fuse.sshfs", "vboxsf"}:
            yield Check(name, Status.WARN, f"{found}: locks and owners are unreliable there", fix)
        elif name == "data folder" and "noexec" in mounted.options:
            yield Check(name, Status.WARN, f"{found}: programs in containers can't run from a noexec mount", fix)
        else:
            yield Check(name, Status.OK, found)


def disk_space(machine: Machine) -> Check | None:
    place = machine.existing(machine.where.data)
    if not os.access(place, os.W_OK | os.X_OK):
        return None
    bytes_left, inodes = machine.space(place)
    found = f"{bytes_left / 1e9:.1f} GB free for {machine.where.data}"
    fix = "make room, or set DEVENV_DATA_HOME to a larger filesystem"
    if bytes_left < 200e6 or 0 <= inodes < 10_000:
        if bytes_left >= 200e6:
            found = f"{inodes} inodes free for {machine.where.data}"
        return Check("disk space", Status.FAIL, found, fix)
    return Check("disk space", Status.WARN if bytes_left < 2e9 else Status.OK, found, fix if bytes_left < 2e9 else "")


def runtime_dir(machine: Machine) -> Check | None:
    if not machine.rootless or machine.environment("DEVENV_RUNTIME_DIR"):
        return None
    value = machine.environment("XDG_RUNTIME_DIR")
    if value and os.path.isdir(value):
        return Check("XDG_RUNTIME_DIR", Status.OK, value)
    found = f"`{value}` is no folder" if value else "not set"
    fix = f"sudo loginctl enable-linger {machine.user}, then log in again"
    return Check("XDG_RUNTIME_DIR", Status.WARN, f"{found}; {machine.where.run} is used", fix)


# -- limits -------------------------------------------------------------------------------------------------------


def cgroups(machine: Machine) -> Check:
    if machine.mount_of("/sys/fs/cgroup").kind == "cgroup2":
        controllers = machine.read("/sys/fs/cgroup/cgroup.controllers") or "none"
        return Check("cgroups", Status.OK, f"version 2, controllers: {controllers}")
    mounts = (machine.read("/proc/self/mountinfo") or "").splitlines()
    kinds = {line.partition(" - ")[2].split(" ")[0] for line in mounts}
    if "cgroup" in kinds:
        shape = "version 1 with a version 2 tree beside it" if "cgroup2" in kinds else "version 1"
        if machine.rootless:
            fix = "boot with systemd.unified_cgroup_hierarchy=1"
            return Check("cgroups", Status.WARN, f"{shape}: limits need root", fix)
        return Check("cgroups", Status.OK, shape)
    fix = "mount -t cgroup2 none /sys/fs/cgroup"
    return Check("cgroups", Status.WARN, "none mounted: no limits, no statistics", f"{'sudo ' * machine.rootless}{fix}")


def limits(machine: Machine) -> Iterator[Check]:
    """What the runtime itself says it can limit, and why not."""
    available = cgroup.limits_available()
    fix = _delegation(machine)
    if machine.rootless and cgroup.could_be_handed_over() and cgroup.place().version == 0:
        # What `up` would do is not done for a look.
        lack = delegation.lack()
        status = Status.WARN if lack else Status.OK
        yield Check(
            "limits",
            status,
            lack or "by a cgroup that the user's systemd gives each project",
            fix=_bus(machine) if lack else "",
        )
        return
    for kind, reason in available.items():
        yield Check(f"{kind} limits", Status.WARN if reason else Status.OK, reason or "work", fix if reason else "")


def lingering(machine: Machine) -> Check | None:
    """A scope of the user's systemd goes when that goes, which is with the user's last session."""
    if not machine.rootless or machine.mount_of("/sys/fs/cgroup").kind != "cgroup2" or not machine.which("loginctl"):
        return None
    if machine.read(f"/var/lib/systemd/linger/{machine.user}") is not None:
        return Check("after logout", Status.OK, "services go on")
    return Check("after logout", Status.WARN, "services end with your last session", "loginctl enable-linger")


def _bus(machine: Machine) -> str:
    package = _install(machine, apt="dbus-user-session", dnf="dbus-daemon", pacman="dbus", zypper="dbus-1", apk="dbus")
    return f"{package}, then log in again"


def _delegation(machine: Machine) -> str:
    if not machine.rootless or machine.mount_of("/sys/fs/cgroup").kind != "cgroup2":
        return ""
    place = "/etc/systemd/system/user@.service.d"
    return (
        f"sudo mkdir -p {place} && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
        f"sudo tee {place}/delegate.conf && sudo systemctl daemon-reload, then log in again"
    )


def inotify(machine: Machine) -> Iterator[Check]:
    """A watch a folder; one that is used up elsewhere makes `logs -f` and editors' tools fail."""
    for name, enough in (("max_user_watches", 65536), ("max_user_instances", 128)):
        value = machine.number(f"/proc/sys/fs/inotify/{name}")
        if value is not None and value < enough:
            fix = _sysctl(machine, f"fs.inotify.{name}", enough * 8)
            yield Check("inotify", Status.WARN, f"{name} is {value}", fix)
            return
    yield Check("inotify", Status.OK, f"{machine.number('/proc/sys/fs/inotify/max_user_watches')} watches")


def seccomp(machine: Machine) -> Check:
    """Without filters containers run all the same, with a note at each `up`."""
    lack = "containers may make every system call"
    if machine.architecture() is None:
        return Check("seccomp", Status.WARN, f"no table of this processor's system calls: {lack}", "")
    problem = machine.attempt(trials.seccomp)
    if problem is not None:
        fix = "boot a kernel with CONFIG_SECCOMP_FILTER; inside a container, allow it seccomp(2)"
        return Check("seccomp", Status.WARN, f"{_words(problem)}: {lack}", fix)
    return Check("seccomp", Status.OK, "filters can be loaded")


# -- network ------------------------------------------------------------------------------------------------------


def nf_tables(machine: Machine) -> Check:
    problem = machine.attempt(lambda: trials.nf_tables(rootless=machine.rootless))
    if problem is None:
        return Check("nf_tables", Status.OK, "answers")
    if machine.rootless:
        return Check("nf_tables", Status.OK, f"{_words(problem)}; only needed as root")
    fix = _MORE_RIGHTS if problem.errno == errno.EPERM else "modprobe nf_tables"
    return Check("nf_tables", Status.WARN, f"{_words(problem)}: services can't reach the network", fix)


def forwarding(machine: Machine) -> Check | None:
    if machine.rootless:
        return None
    value = machine.number("/proc/sys/net/ipv4/ip_forward")
    if value == 1:
        return Check("ip_forward", Status.OK, "on")
    if os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK):
        return Check("ip_forward", Status.OK, "off; devenv turns it on with the first network that goes out")
    fix = "sysctl -w net.ipv4.ip_forward=1, on the host if this is a container"
    return Check("ip_forward", Status.WARN, "off, and can't be turned on: services can't reach the network", fix)


def outbound(machine: Machine) -> Iterator[Check]:
    """Rootless networks reach the outside through a program that holds a tap device."""
    if not machine.rootless:
        return
    programs = [name for name in ("pasta", "slirp4netns") if machine.which(name)]
    if not programs:
        fix = _install(machine, apt="passt")
        yield Check("outbound traffic", Status.WARN, "neither pasta nor slirp4netns: services can't go out", fix)
    else:
        yield Check("outbound traffic", Status.OK, f"through {programs[0]}")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        fix = "sudo modprobe tun && sudo chmod 666 /dev/net/tun"
        yield Check("/dev/net/tun", Status.WARN, f"{exc.strerror}: services can't go out", fix)
    else:
        yield Check("/dev/net/tun", Status.OK, "can be opened")


def low_ports(machine: Machine) -> Check | None:
    if not machine.rootless:
        return None
    start = machine.number("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if start is None or start <= 80:
        return Check("low ports", Status.OK, "80 and up can be published")
    fix = _sysctl(machine, "net.ipv4.ip_unprivileged_port_start", 80)
    return Check("low ports", Status.WARN, f"ports below {start} can't be published", fix)


# -- all of it ----------------------------------------------------------------------------------------------------

_Result = Check | Iterator[Check] | None
CHECKS: tuple[Callable[[Machine], _Result], ...] = (
    kernel,
    python,
    namespaces,
    rights,
    user_namespaces,
    proc,
    id_ranges,
    overlayfs,
    idmapped_layers,
    folders,
    disk_space,
    runtime_dir,
    cgroups,
    limits,
    lingering,
    inotify,
    seccomp,
    nf_tables,
    forwarding,
    outbound,
    low_ports,
)


def run(machine: Machine) -> Iterator[Check]:
    for check in CHECKS:
        try:
            result = check(machine)
            if isinstance(result, Check):
                yield result
            elif result is not None:
                yield from result
        except Exception as exc:  # noqa: BLE001  doctor is for machines on which surprising things fail
            name = check.__name__.replace("_", " ")
            yield Check(name, Status.WARN, f"could not be looked at: {type(exc).__name__}: {exc}")


def _words(problem: OSError) -> str:
    text = problem.strerror or str(problem)
    return f"{problem.filename}: {text}" if problem.filename else text
