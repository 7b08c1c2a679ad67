"""A container, described: options in, an OCI runtime-spec 1.2 ``config.json`` out.

What the specification has no words for travels as annotations, all of them ours and all of them optional:

    dev.devenv.rootfs   the overlays and binds that make up the root, mounted only inside the container's namespace
    dev.devenv.user     a user by name, resolved against the image when the container starts
    dev.devenv.groups   additional groups, by name or number, as JSON
    dev.devenv.runtime  another runtime's program, which makes the container in place of the built-in one
    dev.devenv.runtime-state  the folder for what that one has to keep
    dev.devenv.init     a first process of ours that reaps and passes signals on
    dev.devenv.shm      the mount namespace whose /dev/shm comes with the ipc namespace that is joined
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from devenv import errors
from devenv.runtime import capabilities, idmap, imagemount, resources
from devenv.util import fs

if TYPE_CHECKING:
    from devenv.runtime import seccomp_profile

PREFIX = "dev.devenv."
ROOTFS = "dev.devenv.rootfs"
RUNTIME = "dev.devenv.runtime"
RUNTIME_STATE = "dev.devenv.runtime-state"
USER = "dev.devenv.user"
GROUPS = "dev.devenv.groups"
INIT = "dev.devenv.init"
SHM = "dev.devenv.shm"

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# Docker's, for a network namespace of the container's own.
NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0"}


class Overlay(NamedTuple):
    target: str
    lower: tuple[str, ...]  # the topmost first
    upper: str
    work: str


class Rootfs(NamedTuple):
    overlays: tuple[Overlay, ...]  # the first one is the root
    binds: tuple[tuple[str, str], ...] = ()  # source, target; read-only


class Owner(NamedTuple):
    """Whose the files of a bind are: on disk, and as the container sees them. Users and groups."""

    outside: tuple[int, int]
    inside: tuple[int, int]


class Mount(NamedTuple):
    type: str
    source: str
    target: str
    options: tuple[str, ...] = ()
    owner: Owner | None = None  # beside the option `idmap` or `ridmap`
    layers: tuple[str, ...] = ()  # of an image, the topmost first; see ``imagemount``
    subpath: str = ""  # in them


class Device(NamedTuple):
    source: str
    target: str
    permissions: str = "rwm"


class Ids(NamedTuple):
    """A user namespace of the container's own: ids from 0 on, which are these on the host."""

    first: int
    size: int


class Runtime(NamedTuple):
    program: str
    state: str  # a folder; short, since sockets are made in it, whose paths have 108 bytes (unix(7))


class Options(NamedTuple):
    args: tuple[str, ...]
    rootfs: Rootfs
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    additional_groups: tuple[str, ...] = ()
    terminal: bool = False
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    readonly: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = True
    unmask: bool = False
    # None for no filter of system calls. The default is none for a privileged container, as Docker has it.
    seccomp: seccomp_profile.Profile | Literal["default"] | None = "default"
    rlimits: Mapping[str, tuple[int, int]] = {}  # nofile -> soft, hard; -1 for no limit
    sysctls: Mapping[str, str] = {}
    user_namespace: Ids | None = None  # None for the runtime's own
    network: str = ""  # "" for a new namespace, host, or the path of one
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroup: str = ""
    resources: resources.Resources = resources.Resources()
    oom_score_adj: int | None = None
    devices: tuple[Device, ...] = ()
    device_rules: tuple[Mapping[str, Any], ...] = ()  # beside those of ``devices``: what it may make nodes of and open
    init: bool = False
    runtime: Runtime | None = None  # None for the built-in one
    cgroup_path: str = ""  # relative to devenv's own place in each hierarchy
    shm_size: int = 64 * 1024 * 1024
    annotations: Mapping[str, str] = {}
    hooks: Mapping[str, tuple[Mapping[str, Any], ...]] = {}  # by their names in the specification: see ``hooks``


def load(folder: str, *, name: str) -> dict[str, Any]:
    """The bundle of the container that messages call ``name``. Raises ``ContainerError`` when it can't be read."""
    config = fs.read_json(f"{folder}/config.json")
    if not isinstance(config, dict):
        raise errors.ContainerError(f"container `{name}` has no readable `config.json`")
    return config


def build(options: Options) -> dict[str, Any]:
    """The bundle's ``config.json``. Raises ``ContainerError`` for a capability or a limit that doesn't exist."""
    names = list(capabilities.select(options.cap_add, options.cap_drop, privileged=options.privileged))
    process: dict[str, Any] = {
        "terminal": options.terminal,
        "user": {"uid": 0, "gid": 0, "umask": 0o022},
        "args": list(options.args),
        "env": list(options.env),
        "cwd": options.cwd,
        "capabilities": {
            "bounding": names,
            "effective": names,
            "permitted": names,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": options.no_new_privileges,
        "rlimits": [
            {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
            for name, (soft, hard) in sorted(options.rlimits.items())
        ],
    }
    if options.oom_score_adj is not None:
        process["oomScoreAdj"] = options.oom_score_adj
    masks = not (options.privileged or options.unmask)
    linux: dict[str, Any] = {
        "namespaces": _namespaces(options),
        "sysctl": {**({} if options.network else NETWORK_SYSCTLS), **options.sysctls},
        "resources": {
            **resources.to_oci(options.resources),
            **_device_rules(options),
        },
        "cgroupsPath": options.cgroup_path,
        "devices": [
            {"path": device.target, "x-devenv-source": device.source, "x-devenv-access": device.permissions}
            for device in options.devices
        ],
        "maskedPaths": list(MASKED) if masks else [],
        "readonlyPaths": list(READONLY) if masks else [],
        "rootfsPropagation": "rprivate",
    }
    if options.user_namespace:
        ids = options.user_namespace
        mapping = [{"containerID": 0, "hostID": ids.first, "size": ids.size}]
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    seccomp = _seccomp(options, names)
    if seccomp is not None:
        linux["seccomp"] = seccomp
    config: dict[str, Any] = {
        "ociVersion": "1.2.1",
        "process": process,
        "root": {"path": "rootfs", "readonly": options.readonly},
        "mounts": _mounts(options),
        "linux": linux,
        "annotations": _annotations(options),
    }
    if options.hooks:
        config["hooks"] = {name: [dict(each) for each in found] for name, found in options.hooks.items()}
    if options.hostname:
        config["hostname"] = options.hostname
    if options.domainname:
        config["domainname"] = options.domainname
    return config


def _device_rules(options: Options) -> dict[str, Any]:
    if options.privileged:
        return {"devices": [{"allow": True, "access": "rwm"}]}
    return {"devices": [dict(rule) for rule in options.device_rules]} if options.device_rules else {}


def _seccomp(options: Options, capabilities: list[str]) -> dict[str, Any] | None:
    # Here and not above: the monitor imports this module, and writes no bundles.
    from devenv.runtime import seccomp_policy, seccomp_profile

    profile = options.seccomp
    if profile == "default":
        profile = None if options.privileged else seccomp_policy.DEFAULT
    target = seccomp_profile.target(capabilities)
    return None if profile is None or target is None else profile.resolve(target)


def _namespaces(options: Options) -> list[dict[str, str]]:
    found = [{"type": "mount"}, *([{"type": "user"}] if options.user_namespace else [])]
    for kind, mode in (
        ("pid", options.pid),
        ("network", options.network),
        ("ipc", options.ipc),
        ("uts", options.uts),
        ("cgroup", options.cgroup),
    ):
        if mode != "host":
            found.append({"type": kind, "path": mode} if mode else {"type": kind})
    return found


def _mounts(options: Options) -> list[dict[str, Any]]:
    read_only = [] if options.privileged else ["ro"]
    system = [
        Mount("proc", "proc", "/proc", ("nosuid", "noexec", "nodev")),
        Mount("tmpfs", "tmpfs", "/dev", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount(
            "devpts",
            "devpts",
            "/dev/pts",
            ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        Mount("sysfs", "sysfs", "/sys", ("nosuid", "noexec", "nodev", *read_only)),
        Mount("cgroup", "cgroup", "/sys/fs/cgroup", ("nosuid", "noexec", "nodev", *read_only)),
        Mount("mqueue", "mqueue", "/dev/mqueue", ("nosuid", "noexec", "nodev")),
        Mount("tmpfs", "shm", "/dev/shm", ("nosuid", "noexec", "nodev", "mode=1777", f"size={options.shm_size}")),
    ]
    own = {mount.target.rstrip("/") for mount in options.mounts}
    if options.ipc == "host":
        system[-1] = Mount("bind", "/dev/shm", "/dev/shm", ("rbind", "rprivate"))
    elif options.ipc:
        del system[-1]  # it comes with the namespace that is joined
    chosen = [mount for mount in system if mount.target not in own or mount.target in {"/proc", "/dev", "/sys"}]
    return [
        {
            "destination": mount.target,
            "type": mount.type,
            "source": mount.source,
            "options": [
                *_recursive(mount.options),
                *(_mapped(mount.options) if options.user_namespace and not mount.owner else []),
            ],
            **_owned(mount, options.user_namespace),
            **({imagemount.LAYERS: list(mount.layers), imagemount.SUBPATH: mount.subpath} if mount.layers else {}),
        }
        for mount in (*chosen, *options.mounts)
    ]


def _owned(mount: Mount, ids: Ids | None) -> dict[str, Any]:
    if mount.owner is None:
        return {}
    ids = ids or Ids(0, idmap.EVERY_ID)
    uids, gids = (
        idmap.exchanged(outside, inside, first=ids.first, size=ids.size)
        for outside, inside in zip(mount.owner.outside, mount.owner.inside, strict=True)
    )
    return {"uidMappings": uids, "gidMappings": gids}


def _recursive(options: tuple[str, ...]) -> list[str]:
    """Docker's read-only is so to the last mount beneath; the specification has a word of its own for that."""
    return [*options, "rro"] if {"rbind", "ro"} <= set(options) else list(options)


def _mapped(options: tuple[str, ...]) -> list[str]:
    """What comes from the host keeps its ids: files that the container's root makes are root's out there."""
    return ["ridmap"] if "rbind" in options else ["idmap"] if "bind" in options else []


def _annotations(options: Options) -> dict[str, str]:
    rootfs = {
        "overlays": [overlay._asdict() for overlay in options.rootfs.overlays],
        "binds": [list(pair) for pair in options.rootfs.binds],
    }
    return {
        **options.annotations,
        ROOTFS: json.dumps(rootfs),
        **({USER: options.user} if options.user else {}),
        **({GROUPS: json.dumps(options.additional_groups)} if options.additional_groups else {}),
        **({INIT: "true"} if options.init else {}),
        **({RUNTIME: options.runtime.program, RUNTIME_STATE: options.runtime.state} if options.runtime else {}),
    }
