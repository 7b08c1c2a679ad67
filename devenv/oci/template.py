"""`features` and `spec`: what can be asked for, and something to begin with."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from devenv import __version__, errors
from devenv.oci import checks
from devenv.runtime import bundle, capabilities, hooks, mountoptions, schedule, seccomp_rules

if TYPE_CHECKING:
    from devenv.oci.main import Context


# Only on v2 does a container see nothing but its own without it; that is how runc writes it, and scripts add to that.
_CGROUP = ("cgroup",) if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else ()


def features(_: Context) -> int:
    """By the specification: what this program can do, whatever this machine can."""
    print(json.dumps(_features(), indent=2))
    return 0


def _features() -> dict[str, Any]:
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": checks.VERSION,
        "hooks": list(hooks.NAMES),
        "mountOptions": mountoptions.known(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(capabilities.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": list(seccomp_rules.ACTIONS),
                "operators": list(seccomp_rules.OPERATORS),
                "archs": [name for name, abi in seccomp_rules.ARCHITECTURES.items() if abi],
                "knownFlags": list(seccomp_rules.FLAGS),
                "supportedFlags": list(seccomp_rules.FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "memoryPolicy": {"modes": list(schedule.MEMORY_MODES), "flags": list(schedule.MEMORY_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"dev.devenv.version": __version__},
    }


def spec(context: Context) -> int:
    path = os.path.join(context.given.bundle, context.given.config)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError as exc:
        raise errors.ContainerError(f"File {path} exists. Remove it first") from exc
    with os.fdopen(descriptor, "w") as file:
        json.dump(_spec(rootless=context.given.rootless), file, indent=1)
        file.write("\n")
    return 0


def _spec(*, rootless: bool) -> dict[str, Any]:
    names = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    found: dict[str, Any] = {
        "ociVersion": checks.VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), names),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "devenv",
        "mounts": _mounts(rootless=rootless),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount", *_CGROUP)],
            "maskedPaths": list(bundle.MASKED),
            "readonlyPaths": list(bundle.READONLY),
        },
    }
    if rootless:
        linux = found["linux"]
        del linux["resources"]
        linux["namespaces"] = [{"type": each} for each in ("pid", "ipc", "uts", "user", "mount", *_CGROUP)]
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    return found


def _mounts(*, rootless: bool) -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    rows: list[tuple[str, str, str, list[str]]] = [
        ("/proc", "proc", "proc", []),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", pts if rootless else [*pts, "gid=5"]),
        ("/dev/shm", "tmpfs", "shm", [*quiet, "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", "mqueue", quiet),
        ("/sys", "none", "/sys", ["rbind", *quiet, "ro"]) if rootless else ("/sys", "sysfs", "sysfs", [*quiet, "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", [*quiet, "relatime", "ro"]),
    ]
    if rootless:
        rows.pop()
    return [
        {"destination": target, "type": kind, "source": source, "options": options}
        for target, kind, source, options in rows
    ]
