"""What this machine gives and lacks, as data: one ``Check`` a thing, with the line that mends it.

The checks read through a ``Machine``, so that tests can describe any machine, and try the thing itself where that is
cheap (``trials``). A check never raises: what can't be looked at is a warning that says so.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator

from devenv.reconcile import facts, leftovers, surroundings, trials
from devenv.runtime import capabilities, cgroup, delegation, fuseoverlay

_NEEDED = (
    "SYS_ADMIN NET_ADMIN SYS_PTRACE SYS_CHROOT SETUID SETGID SETPCAP SETFCAP CHOWN FOWNER DAC_OVERRIDE FSETID KILL"
).split()
# What compose files, docker and podman call it.
_MORE_RIGHTS = (
    "in a container, give it `privileged: true`, or `cap_add: [SYS_ADMIN, NET_ADMIN, SYS_PTRACE]` and "
    "`security_opt: [seccomp:unconfined]`"
)


# -- the machine --------------------------------------------------------------------------------------------------


def kernel(machine: facts.Machine) -> facts.Check:
    release = machine.release()
    version = _version(release)
    if version < (5, 6):
        return facts.Check(
            "kernel", facts.Status.FAIL, f"Linux {release}", "Linux 5.6 or newer is needed (openat2, pidfd)"
        )
    if version < (5, 12):
        fix = "Linux 5.12 or newer is recommended (overlayfs in user namespaces, mount_setattr)"
        return facts.Check("kernel", facts.Status.WARN, f"Linux {release}", fix)
    note = (
        "" if version >= (6, 15) else "; exit codes of containers that outlive a killed monitor are unknown before 6.15"
    )
    return facts.Check("kernel", facts.Status.OK, f"Linux {release}{note}")


def _version(release: str) -> tuple[int, int]:
    """Major and minor; (0, 0) for a release that does not begin with them."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def python(machine: facts.Machine) -> facts.Check:
    version = ".".join(str(number) for number in sys.version_info[:3])
    return facts.Check("python", facts.Status.OK, f"{version} ({sys.executable})")


def namespaces(machine: facts.Machine) -> facts.Check | None:
    if machine.rootless:
        return None
    problem = machine.attempt(trials.all_namespaces)
    if problem is None:
        return facts.Check("namespaces", facts.Status.OK, "mount, pid, network, ipc, uts and cgroup")
    return facts.Check("namespaces", facts.Status.FAIL, facts.words(problem), _MORE_RIGHTS)


def rights(machine: facts.Machine) -> facts.Check | None:
    """Root in a container is not the root that the kernel knows."""
    held = machine.capabilities()
    if machine.rootless or held is None:
        return None
    lacking = [name for name in _NEEDED if not held >> capabilities.NAMES.index(f"CAP_{name}") & 1]
    if not lacking:
        return facts.Check("capabilities", facts.Status.OK, "all that devenv needs as root")
    return facts.Check("capabilities", facts.Status.FAIL, f"root lacks {', '.join(lacking)}", _MORE_RIGHTS)


def user_namespaces(machine: facts.Machine) -> facts.Check:
    problem = machine.attempt(trials.user_namespace) if machine.rootless else None
    if machine.rootless and problem is None:
        return facts.Check("user namespaces", facts.Status.OK, "can be made, and give the powers they should")
    cause, fix = _user_namespace_setting(machine)
    if not machine.rootless:
        if cause:
            return facts.Check("user namespaces", facts.Status.WARN, f"{cause}: ordinary users can't run devenv", fix)
        return facts.Check("user namespaces", facts.Status.OK, "open to ordinary users; not needed as root")
    assert problem is not None
    found = f"{facts.words(problem)}; {cause}" if cause else facts.words(problem)
    return facts.Check("user namespaces", facts.Status.FAIL, found, fix or "run as root, or ask for user namespaces")


def proc(machine: facts.Machine) -> facts.Check | None:
    """Docker and podman mask parts of a container's /proc: then it can't be mounted anew in a user namespace."""
    problem = machine.attempt(trials.proc) if machine.rootless else None
    if not machine.rootless:
        return None
    if problem is None:
        return facts.Check("/proc", facts.Status.OK, "each service can have its own")
    fix = (
        "in a container, start that with `security_opt: [systempaths=unconfined]` (podman: `--security-opt unmask=ALL`)"
    )
    return facts.Check(
        "/proc", facts.Status.WARN, f"{facts.words(problem)}: services see the processes around devenv", fix
    )


def _user_namespace_setting(machine: facts.Machine) -> tuple[str, str]:
    """The setting that forbids them and the line that changes it."""
    closed = (
        ("user.max_user_namespaces", 0, 15000),
        ("kernel.unprivileged_userns_clone", 0, 1),
        ("kernel.apparmor_restrict_unprivileged_userns", 1, 0),
    )
    for setting, bad, good in closed:
        if machine.number("/proc/sys/" + setting.replace(".", "/")) == bad:
            return f"{setting} is {bad}", facts.sysctl(machine, setting, good)
    return "", ""


def id_ranges(machine: facts.Machine) -> Iterator[facts.Check]:
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
        yield facts.Check(name, facts.Status.WARN, found, f"sudo usermod {options} {machine.user}")
    lacking = [program for program in ("newuidmap", "newgidmap") if machine.which(program) is None]
    if lacking:
        fix = facts.install(
            machine, apt="uidmap", dnf="shadow-utils", pacman="shadow", zypper="shadow", apk="shadow-uidmap"
        )
        yield facts.Check(name, facts.Status.WARN, f"no {' and no '.join(lacking)}", fix)
        return
    if unlisted:
        return
    start, count = ranges["subuid"][0]
    problem = machine.id_ranges((start, count), ranges["subgid"][0])
    if problem is None:
        yield facts.Check(name, facts.Status.OK, f"{count} ids from {start}")
        return
    program = machine.which("newuidmap") or "newuidmap"
    fix = "" if machine.is_privileged(program) else f"sudo chmod u+s {program} {machine.which('newgidmap')}"
    yield facts.Check(
        name,
        facts.Status.WARN,
        f"{facts.words(problem)}: only one id inside",
        fix or "mend /etc/subuid and /etc/subgid",
    )


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


def overlayfs(machine: facts.Machine) -> Iterator[facts.Check]:
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
        yield facts.Check(name, facts.Status.OK, f"works on {machine.mount_of(place).kind}")
        return
    if not machine.rootless and problem.errno == errno.EPERM:
        yield facts.Check(name, facts.Status.FAIL, facts.words(problem), _MORE_RIGHTS)
        return
    if "overlay" not in (machine.read("/proc/filesystems") or ""):
        fix = "sudo modprobe overlay" if machine.rootless else "modprobe overlay"
    else:
        fix = "set DEVENV_DATA_HOME to a folder on ext4, xfs, btrfs or tmpfs"
    stands_in = machine.which(fuseoverlay.PROGRAM) is not None and os.access(fuseoverlay.DEVICE, os.R_OK | os.W_OK)
    yield facts.Check(name, facts.Status.WARN if stands_in else facts.Status.FAIL, facts.words(problem), fix)
    if machine.which(fuseoverlay.PROGRAM) is None:
        yield facts.Check(
            "fuse-overlayfs", facts.Status.WARN, "not installed", facts.install(machine, apt="fuse-overlayfs")
        )
    elif not stands_in:
        fix = f"{'sudo ' * machine.rootless}modprobe fuse && {'sudo ' * machine.rootless}chmod 666 /dev/fuse"
        yield facts.Check(
            "fuse-overlayfs", facts.Status.WARN, "/dev/fuse can't be opened", f"{fix}; in a container, give it that"
        )
    else:
        yield facts.Check("fuse-overlayfs", facts.Status.OK, "stands in for the kernel's overlay, and is slower")


def idmapped_layers(machine: facts.Machine) -> facts.Check | None:
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
        return facts.Check("id-mapped layers", facts.Status.OK, "work: `userns_mode: auto` can be had")
    if problem.errno == errno.EPERM:
        fix = _MORE_RIGHTS
    elif _version(machine.release()) < (5, 19):
        fix = "Linux 5.19 or newer is needed for `userns_mode: auto`"
    else:
        fix = "for `userns_mode: auto`, set DEVENV_DATA_HOME to a folder on ext4, xfs or btrfs"
    return facts.Check("id-mapped layers", facts.Status.WARN, facts.words(problem), fix)


def folders(machine: facts.Machine) -> Iterator[facts.Check]:
    for name, path, variable in (
        ("data folder", machine.where.data, "DEVENV_DATA_HOME"),
        ("runtime folder", machine.where.run, "DEVENV_RUNTIME_DIR"),
    ):
        place = machine.existing(path)
        mounted = machine.mount_of(place)
        found = f"{path} ({mounted.kind})"
        fix = f"set {variable} to a folder of your own on a local filesystem"
        if not os.access(place, os.W_OK | os.X_OK):
            yield facts.Check(name, facts.Status.FAIL, f"{found}: `{place}` is not writable", fix)
        elif os.path.isdir(path) and os.stat(path).st_uid != machine.uid:
            yield facts.Check(name, facts.Status.FAIL, f"{found}: belongs to another user", fix)
        elif mounted.kind in {"nfs", "nfs4", "cifs", "9p", "fuse.sshfs", "vboxsf"}:
            yield facts.Check(name, facts.Status.WARN, f"{found}: locks and owners are unreliable there", fix)
        elif name == "data folder" and "noexec" in mounted.options:
            yield facts.Check(
                name, facts.Status.WARN, f"{found}: programs in containers can't run from a noexec mount", fix
            )
        else:
            yield facts.Check(name, facts.Status.OK, found)


def disk_space(machine: facts.Machine) -> facts.Check | None:
    place = machine.existing(machine.where.data)
    if not os.access(place, os.W_OK | os.X_OK):
        return None
    bytes_left, inodes = machine.space(place)
    found = f"{bytes_left / 1e9:.1f} GB free for {machine.where.data}"
    fix = "make room, or set DEVENV_DATA_HOME to a larger filesystem"
    if bytes_left < 200e6 or 0 <= inodes < 10_000:
        if bytes_left >= 200e6:
            found = f"{inodes} inodes free for {machine.where.data}"
        return facts.Check("disk space", facts.Status.FAIL, found, fix)
    return facts.Check(
        "disk space", facts.Status.WARN if bytes_left < 2e9 else facts.Status.OK, found, fix if bytes_left < 2e9 else ""
    )


def runtime_dir(machine: facts.Machine) -> facts.Check | None:
    if not machine.rootless or machine.environment("DEVENV_RUNTIME_DIR"):
        return None
    value = machine.environment("XDG_RUNTIME_DIR")
    if value and os.path.isdir(value):
        return facts.Check("XDG_RUNTIME_DIR", facts.Status.OK, value)
    found = f"`{value}` is no folder" if value else "not set"
    fix = f"sudo loginctl enable-linger {machine.user}, then log in again"
    return facts.Check("XDG_RUNTIME_DIR", facts.Status.WARN, f"{found}; {machine.where.run} is used", fix)


# -- limits -------------------------------------------------------------------------------------------------------


def cgroups(machine: facts.Machine) -> facts.Check:
    if machine.mount_of("/sys/fs/cgroup").kind == "cgroup2":
        controllers = machine.read("/sys/fs/cgroup/cgroup.controllers") or "none"
        return facts.Check("cgroups", facts.Status.OK, f"version 2, controllers: {controllers}")
    mounts = (machine.read("/proc/self/mountinfo") or "").splitlines()
    kinds = {line.partition(" - ")[2].split(" ")[0] for line in mounts}
    if "cgroup" in kinds:
        shape = "version 1 with a version 2 tree beside it" if "cgroup2" in kinds else "version 1"
        if machine.rootless:
            fix = "boot with systemd.unified_cgroup_hierarchy=1"
            return facts.Check("cgroups", facts.Status.WARN, f"{shape}: limits need root", fix)
        return facts.Check("cgroups", facts.Status.OK, shape)
    fix = "mount -t cgroup2 none /sys/fs/cgroup"
    return facts.Check(
        "cgroups", facts.Status.WARN, "none mounted: no limits, no statistics", f"{'sudo ' * machine.rootless}{fix}"
    )


def limits(machine: facts.Machine) -> Iterator[facts.Check]:
    """What the runtime itself says it can limit, and why not."""
    available = cgroup.limits_available()
    fix = _delegation(machine)
    if machine.rootless and cgroup.could_be_handed_over() and cgroup.place().version == 0:
        # What `up` would do is not done for a look.
        lack = delegation.lack()
        status = facts.Status.WARN if lack else facts.Status.OK
        yield facts.Check(
            "limits",
            status,
            lack or "by a cgroup that the user's systemd gives each project",
            fix=_bus(machine) if lack else "",
        )
        return
    for kind, reason in available.items():
        yield facts.Check(
            f"{kind} limits", facts.Status.WARN if reason else facts.Status.OK, reason or "work", fix if reason else ""
        )


def lingering(machine: facts.Machine) -> facts.Check | None:
    """A scope of the user's systemd goes when that goes, which is with the user's last session."""
    if not machine.rootless or machine.mount_of("/sys/fs/cgroup").kind != "cgroup2" or not machine.which("loginctl"):
        return None
    if machine.read(f"/var/lib/systemd/linger/{machine.user}") is not None:
        return facts.Check("after logout", facts.Status.OK, "services go on")
    return facts.Check(
        "after logout", facts.Status.WARN, "services end with your last session", "loginctl enable-linger"
    )


def _bus(machine: facts.Machine) -> str:
    package = facts.install(
        machine, apt="dbus-user-session", dnf="dbus-daemon", pacman="dbus", zypper="dbus-1", apk="dbus"
    )
    return f"{package}, then log in again"


def _delegation(machine: facts.Machine) -> str:
    if not machine.rootless or machine.mount_of("/sys/fs/cgroup").kind != "cgroup2":
        return ""
    place = "/etc/systemd/system/user@.service.d"
    return (
        f"sudo mkdir -p {place} && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
        f"sudo tee {place}/delegate.conf && sudo systemctl daemon-reload, then log in again"
    )


def inotify(machine: facts.Machine) -> Iterator[facts.Check]:
    """A watch a folder; one that is used up elsewhere makes `logs -f` and editors' tools fail."""
    for name, enough in (("max_user_watches", 65536), ("max_user_instances", 128)):
        value = machine.number(f"/proc/sys/fs/inotify/{name}")
        if value is not None and value < enough:
            fix = facts.sysctl(machine, f"fs.inotify.{name}", enough * 8)
            yield facts.Check("inotify", facts.Status.WARN, f"{name} is {value}", fix)
            return
    yield facts.Check("inotify", facts.Status.OK, f"{machine.number('/proc/sys/fs/inotify/max_user_watches')} watches")


def seccomp(machine: facts.Machine) -> facts.Check:
    """Without filters containers run all the same, with a note at each `up`."""
    lack = "containers may make every system call"
    if machine.architecture() is None:
        return facts.Check("seccomp", facts.Status.WARN, f"no table of this processor's system calls: {lack}", "")
    problem = machine.attempt(trials.seccomp)
    if problem is not None:
        fix = "boot a kernel with CONFIG_SECCOMP_FILTER; inside a container, allow it seccomp(2)"
        return facts.Check("seccomp", facts.Status.WARN, f"{facts.words(problem)}: {lack}", fix)
    return facts.Check("seccomp", facts.Status.OK, "filters can be loaded")


# -- network ------------------------------------------------------------------------------------------------------


def nf_tables(machine: facts.Machine) -> facts.Check:
    problem = machine.attempt(lambda: trials.nf_tables(rootless=machine.rootless))
    if problem is None:
        return facts.Check("nf_tables", facts.Status.OK, "answers")
    if machine.rootless:
        return facts.Check("nf_tables", facts.Status.OK, f"{facts.words(problem)}; only needed as root")
    fix = _MORE_RIGHTS if problem.errno == errno.EPERM else "modprobe nf_tables"
    return facts.Check("nf_tables", facts.Status.WARN, f"{facts.words(problem)}: services can't reach the network", fix)


def forwarding(machine: facts.Machine) -> facts.Check | None:
    if machine.rootless:
        return None
    value = machine.number("/proc/sys/net/ipv4/ip_forward")
    if value == 1:
        return facts.Check("ip_forward", facts.Status.OK, "on")
    if os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK):
        return facts.Check(
            "ip_forward", facts.Status.OK, "off; devenv turns it on with the first network that goes out"
        )
    fix = "sysctl -w net.ipv4.ip_forward=1, on the host if this is a container"
    return facts.Check(
        "ip_forward", facts.Status.WARN, "off, and can't be turned on: services can't reach the network", fix
    )


def outbound(machine: facts.Machine) -> Iterator[facts.Check]:
    """Rootless networks reach the outside through a program that holds a tap device."""
    if not machine.rootless:
        return
    programs = [name for name in ("pasta", "slirp4netns") if machine.which(name)]
    if not programs:
        fix = facts.install(machine, apt="passt")
        yield facts.Check(
            "outbound traffic", facts.Status.WARN, "neither pasta nor slirp4netns: services can't go out", fix
        )
    else:
        yield facts.Check("outbound traffic", facts.Status.OK, f"through {programs[0]}")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        fix = "sudo modprobe tun && sudo chmod 666 /dev/net/tun"
        yield facts.Check("/dev/net/tun", facts.Status.WARN, f"{exc.strerror}: services can't go out", fix)
    else:
        yield facts.Check("/dev/net/tun", facts.Status.OK, "can be opened")


def low_ports(machine: facts.Machine) -> facts.Check | None:
    if not machine.rootless:
        return None
    start = machine.number("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if start is None or start <= 80:
        return facts.Check("low ports", facts.Status.OK, "80 and up can be published")
    fix = facts.sysctl(machine, "net.ipv4.ip_unprivileged_port_start", 80)
    return facts.Check("low ports", facts.Status.WARN, f"ports below {start} can't be published", fix)


# -- all of it ----------------------------------------------------------------------------------------------------

_Result = facts.Check | Iterator[facts.Check] | None
CHECKS: tuple[Callable[[facts.Machine], _Result], ...] = (
    kernel,
    surroundings.system_calls,
    python,
    surroundings.clock,
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
    surroundings.name_servers,
    surroundings.firewalls,
    surroundings.emulators,
    leftovers.look,
)


def run(machine: facts.Machine) -> Iterator[facts.Check]:
    for check in CHECKS:
        try:
            result = check(machine)
            if isinstance(result, facts.Check):
                yield result
            elif result is not None:
                yield from result
        except Exception as exc:  # noqa: BLE001  doctor is for machines on which surprising things fail
            name = check.__name__.replace("_", " ")
            yield facts.Check(name, facts.Status.WARN, f"could not be looked at: {type(exc).__name__}: {exc}")
