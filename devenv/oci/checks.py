"""Whether a bundle's ``config.json`` is one, before anything is made: types, values and combinations.

The specification wants unknown properties ignored and unsupported values refused. Only what would otherwise do
something else than asked is an error; what can't be granted (a capability the kernel doesn't know) is a warning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from devenv import errors
from devenv.runtime import capabilities, hooks, labels, mountoptions, schedule, signals, sysctl

VERSION = "1.3.0"
_NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup", "user", "time")
_STRANGE = re.compile(r"[^\w+.-]", re.ASCII)
Warn = Callable[[str], None]


def container_id(text: str) -> None:
    """Raises ``UsageError`` for a name that could mean a place elsewhere."""
    strange = _STRANGE.search(text)
    if strange or text.startswith(".") or not 1 <= len(text) <= 1024:
        what = f"invalid character `{strange[0]}`" if strange else "it begins with a dot, or is empty or too long"
        raise errors.UsageError(f"invalid container ID format: `{text}`: {what}", hint="letters, digits and `_+-.`")


def refuse(what: str) -> errors.ContainerError:
    return errors.ContainerError(what)


def config(found: Any, *, warn: Warn) -> dict[str, Any]:
    """The configuration, checked. Raises ``ContainerError``."""
    if not isinstance(found, dict):
        raise refuse("config.json is no object")
    _types(found, "", _SHAPE)
    _version(found.get("ociVersion"))
    if not found.get("linux"):
        found["linux"] = {}
    if not found.get("root"):
        raise refuse("`root` is required")
    if not found["root"].get("path"):
        raise refuse("`root.path` is required")
    _namespaces(found)
    _mounts(found)
    _hooks(found)
    for name, value in (found["linux"].get("sysctl") or {}).items():
        _sysctl(name, value, found)
    _devices(found["linux"])
    _intel(found["linux"])
    _net_devices(found["linux"])
    if found.get("process"):
        process(found["process"], found["linux"], warn=warn)
    else:
        found["process"] = {"args": [], "cwd": "/"}
    propagation = found["linux"].get("rootfsPropagation")
    if propagation:
        try:
            mountoptions.propagation(propagation)
        except KeyError as exc:
            raise refuse(f"rootfsPropagation={propagation} is not supported") from exc
    return found


def _version(text: Any) -> None:
    if not text:
        raise refuse("`ociVersion` is required")
    matched = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)([-+].+)?", text)
    if not matched:
        raise refuse(f"`{text}` is no version of the specification")
    if matched[1] != "1":
        raise refuse(f"unsupported version of the specification: {text}")


# -- shapes --------------------------------------------------------------------------------------------------------

# What is of another shape would fail somewhere deep inside, with a message that names nothing.
_STRINGS = [str]
_IDS = [{"containerID": int, "hostID": int, "size": int}]
_PROCESS: dict[str, Any] = {
    "terminal": bool,
    "consoleSize": {"height": int, "width": int},
    "cwd": str,
    "env": _STRINGS,
    "args": _STRINGS,
    "user": {"uid": int, "gid": int, "umask": int, "additionalGids": [int]},
    "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), _STRINGS),
    "rlimits": [{"type": str, "soft": int, "hard": int}],
    "noNewPrivileges": bool,
    "apparmorProfile": str,
    "selinuxLabel": str,
    "oomScoreAdj": int,
    "scheduler": {
        "policy": str,
        "nice": int,
        "priority": int,
        "flags": _STRINGS,
        "runtime": int,
        "deadline": int,
        "period": int,
    },
    "ioPriority": {"class": str, "priority": int},
    "execCPUAffinity": {"initial": str, "final": str},
}
_HOOK = [{"path": str, "args": _STRINGS, "env": _STRINGS, "timeout": int}]
_DEVICE_RATE = [{"major": int, "minor": int, "rate": int}]
RESOURCES: dict[str, Any] = {
    "devices": [{"allow": bool, "type": str, "major": int, "minor": int, "access": str}],
    "memory": dict.fromkeys(("limit", "swap", "reservation", "kernel", "kernelTCP", "swappiness"), int)
    | {"disableOOMKiller": bool, "useHierarchy": bool, "checkBeforeUpdate": bool},
    "cpu": dict.fromkeys(("shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod", "idle"), int)
    | {"cpus": str, "mems": str},
    "pids": {"limit": int},
    "blockIO": {
        "weight": int,
        "leafWeight": int,
        "weightDevice": [{"major": int, "minor": int, "weight": int, "leafWeight": int}],
        "throttleReadBpsDevice": _DEVICE_RATE,
        "throttleWriteBpsDevice": _DEVICE_RATE,
        "throttleReadIOPSDevice": _DEVICE_RATE,
        "throttleWriteIOPSDevice": _DEVICE_RATE,
    },
    "hugepageLimits": [{"pageSize": str, "limit": int}],
    "network": {"classID": int, "priorities": [{"name": str, "priority": int}]},
    "rdma": dict,
    "unified": dict,
}
_SHAPE: dict[str, Any] = {
    "ociVersion": str,
    "root": {"path": str, "readonly": bool},
    "hostname": str,
    "domainname": str,
    "mounts": [
        {
            "destination": str,
            "source": str,
            "type": str,
            "options": _STRINGS,
            "uidMappings": _IDS,
            "gidMappings": _IDS,
        }
    ],
    "process": _PROCESS,
    "hooks": dict.fromkeys(hooks.NAMES, _HOOK),
    "annotations": dict,
    "linux": {
        "namespaces": [{"type": str, "path": str}],
        "uidMappings": _IDS,
        "gidMappings": _IDS,
        "timeOffsets": dict,
        "devices": [{"path": str, "type": str, "major": int, "minor": int, "fileMode": int, "uid": int, "gid": int}],
        "cgroupsPath": str,
        "resources": RESOURCES,
        "sysctl": dict,
        "maskedPaths": _STRINGS,
        "readonlyPaths": _STRINGS,
        "mountLabel": str,
        "rootfsPropagation": str,
        "personality": {"domain": str, "flags": _STRINGS},
        "memoryPolicy": {"mode": str, "nodes": str, "flags": _STRINGS},
        "intelRdt": dict,
        "netDevices": dict,
    },
}


def resources(found: Any) -> dict[str, Any]:
    """Of `update`."""
    if not isinstance(found, dict):
        raise refuse("the resources are no object")
    _types(found, "resources", RESOURCES)
    return found


def _types(value: Any, where: str, shape: Any) -> None:
    if value is None:
        return
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise refuse(f"`{where or 'config.json'}` is not an object")
        for name, inner in shape.items():
            if name in value:
                _types(value[name], f"{where}.{name}".lstrip("."), inner)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise refuse(f"`{where}` is not a list")
        for number, each in enumerate(value):
            if each is None:
                raise refuse(f"`{where}[{number}]` is null")
            _types(each, f"{where}[{number}]", shape[0])
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        raise refuse(f"`{where}` is not {_WORDS[shape]}")
    elif isinstance(value, str) and "\0" in value:
        raise refuse(f"`{where}` has a NUL in it")


_WORDS = {str: "a string", int: "a number", bool: "true or false", dict: "an object"}


# -- what belongs together -----------------------------------------------------------------------------------------


def _kinds(found: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each.get("path") or "" for each in found["linux"].get("namespaces") or []}


def _namespaces(found: dict[str, Any]) -> None:
    listed = found["linux"].get("namespaces") or []
    for each in listed:
        if each.get("type") not in _NAMESPACES:
            raise refuse(f"namespace type `{each.get('type')}` does not exist")
        if each.get("path") and not os.path.isabs(each["path"]):
            raise refuse(f"the namespace path `{each['path']}` is not absolute")
    kinds = _kinds(found)
    if len(kinds) != len(listed):
        raise refuse("malformed spec file: a namespace is given twice")
    mappings = [found["linux"].get(name) for name in ("uidMappings", "gidMappings")]
    if "user" not in kinds and any(mappings):
        raise refuse("user namespace mappings specified, but user namespace isn't enabled in the config")
    if "user" in kinds and not kinds["user"] and not all(mappings):
        raise refuse("user namespaces enabled, but no namespace path to join nor mappings to apply specified")
    if kinds.get("user") and any(mappings):
        raise refuse("user namespace enabled, but both namespace path and mapping specified: only one can be used")
    for name in ("hostname", "domainname"):
        if found.get(name) and "uts" not in kinds:
            raise refuse(f"unable to set {name} without a private UTS namespace")
    offsets = found["linux"].get("timeOffsets")
    if offsets:
        if "time" not in kinds:
            raise refuse("time namespace offsets specified, but time namespace isn't enabled in the config")
        if kinds["time"]:
            raise refuse("time namespace enabled, but both namespace path and time offsets specified")
        if not set(offsets) <= {"monotonic", "boottime"}:
            raise refuse("only the clocks `monotonic` and `boottime` have offsets")
    hidden = [name for name in ("maskedPaths", "readonlyPaths") if found["linux"].get(name)]
    if hidden and "mount" not in kinds:
        raise refuse(f"unable to restrict sys entries ({hidden[0]}) without a private MNT namespace")


def _mounts(found: dict[str, Any]) -> None:
    for number, entry in enumerate(found.get("mounts") or []):
        where = f"mounts[{number}]"
        if not entry.get("destination"):
            raise refuse(f"`{where}.destination` is required")
        options = mountoptions.parse(entry.get("options") or [])
        binds = mountoptions.is_bind(entry)
        if binds and not entry.get("source") and "remount" not in (entry.get("options") or []):
            raise refuse(f"`{where}`: a bind mount needs a source")
        mapped = [bool(entry.get(name)) for name in ("uidMappings", "gidMappings")]
        if any(mapped) != all(mapped):
            raise refuse(f"`{where}`: uidMappings and gidMappings go together")
        if (options.idmap or any(mapped)) and not binds:
            raise refuse(f"`{where}`: id-mapped mounts are only supported for bind-mounts")
        if options.idmap and not any(mapped) and not found["linux"].get("uidMappings"):
            raise refuse(f"`{where}`: `{options.idmap}` needs mappings, its own or a user namespace's")


def _hooks(found: dict[str, Any]) -> None:
    for name in hooks.NAMES:
        for hook in (found.get("hooks") or {}).get(name) or []:
            if not os.path.isabs(hook.get("path") or ""):
                raise refuse(f"the path of a {name} hook must be absolute: `{hook.get('path') or ''}`")
            if hook.get("timeout") is not None and hook["timeout"] <= 0:
                raise refuse(f"the timeout of a {name} hook must be above zero")


def _sysctl(name: str, value: Any, found: dict[str, Any]) -> None:
    kinds = _kinds(found)
    own = {kind for kind, path in kinds.items() if not (kind == "network" and path and _is_ours("net", path))}
    problem = sysctl.refusal(name, value, own)
    if problem:
        raise refuse(problem)
    if sysctl.dotted(name) == "kernel.domainname" and found.get("domainname") not in {None, "", value}:
        raise refuse(f"sysctl `{name}` conflicts with the OCI `domainname` field")


def _is_ours(kind: str, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.stat(f"/proc/self/ns/{kind}"))
    except OSError as exc:
        raise refuse(f"the namespace `{path}`: {exc.strerror}") from exc


def _devices(linux: dict[str, Any]) -> None:
    for entry in linux.get("devices") or []:
        if not entry.get("path"):
            raise refuse("a device needs a path")
        if entry.get("type") not in {"c", "b", "u", "p"}:
            raise refuse(f"device `{entry['path']}` has the invalid type `{entry.get('type')}`")
        if entry["type"] != "p" and (entry.get("major") is None or entry.get("minor") is None):
            raise refuse(f"device `{entry['path']}` needs major and minor")


def _intel(linux: dict[str, Any]) -> None:
    if linux.get("intelRdt"):
        raise refuse(
            "intelRdt is specified in config, but Intel RDT is not "
            + ("supported by devenv" if os.path.isdir("/sys/fs/resctrl/info") else "enabled")
        )


def _net_devices(linux: dict[str, Any]) -> None:
    wanted = linux.get("netDevices") or {}
    if not wanted:
        return
    if not any(each["type"] == "network" for each in linux.get("namespaces") or []):
        raise refuse("unable to move network devices without a private NET namespace")
    for name, entry in wanted.items():
        for each in (name, (entry or {}).get("name") or name):
            if not 0 < len(each) < 16 or each in {".", ".."} or set(each) & set("/: "):
                raise refuse(f"invalid network device name `{each}`")


def process(found: Any, linux: dict[str, Any], *, warn: Warn) -> dict[str, Any]:
    """Of a configuration, or of `exec --process`. Raises ``ContainerError``."""
    if not isinstance(found, dict):
        raise refuse("the process is no object")
    _types(found, "process", _PROCESS)
    if not found.get("args"):
        raise refuse("process.args must not be empty")
    if not os.path.isabs(found.get("cwd") or ""):
        raise refuse(f"`process.cwd` must be an absolute path: `{found.get('cwd') or ''}`")
    for item in found.get("env") or []:
        if "=" not in item or item.startswith("="):
            raise refuse(f"invalid environment variable: `{item}`")
    kinds = [limit.get("type") for limit in found.get("rlimits") or []]
    if len(set(kinds)) != len(kinds):
        raise refuse("process.rlimits has a type twice")
    score = found.get("oomScoreAdj")
    if score is not None and not -1000 <= score <= 1000:
        raise refuse(f"oomScoreAdj {score} is not within -1000 and 1000")
    user = found.get("user") or {}
    for number in (user.get("uid") or 0, user.get("gid") or 0, *(user.get("additionalGids") or ())):
        if not 0 <= number < (1 << 32) - 1:
            raise refuse(f"`{number}` is no id of a user or group")
    named = {name for each in (found.get("capabilities") or {}).values() for name in each or ()}
    for name in sorted(capabilities.unknown(named)):
        warn(f"ignoring unknown or unavailable capability {name}")
    sets = found.get("capabilities") or {}
    both = set(sets.get("inheritable") or []) & set(sets.get("permitted") or [])
    if impossible := [name for name in sets.get("ambient") or [] if name not in both]:
        # podman's builds ask for all of them so: one line will do.
        warn(f"can't raise ambient capability {', '.join(impossible)}: it has to be inheritable and permitted")
    labels.check(found, linux.get("mountLabel"))
    schedule.check(found, linux)
    return found


def signal(text: str) -> int:
    try:
        return 0 if text == "0" else signals.parse(text)
    except errors.ContainerError as exc:
        raise errors.UsageError(f"unknown signal `{text}`", hint=exc.hint) from exc
