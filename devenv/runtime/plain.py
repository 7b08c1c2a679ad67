"""Our bundle as any OCI runtime takes it: without annotations of ours, for what they say is done or written out."""

from __future__ import annotations

import copy
import json
import os
import stat
from typing import Any

from devenv import errors
from devenv.linux import openat2
from devenv.runtime import bundle, cgroup, copyup, devices, init, mountoptions

# What the oldest runtimes in use know; nothing that we write needs more.
VERSION = "1.0.2"
_OURS = ("copyup",)


def configuration(config: dict[str, Any], *, root: str) -> dict[str, Any]:
    """``root`` is the folder where the image is mounted. New volumes are filled from it.

    Raises ``ContainerError`` and ``OSError``.
    """
    made = copy.deepcopy(config)
    made["ociVersion"] = VERSION
    made["root"]["path"] = root
    annotations = made.pop("annotations", {})
    made["annotations"] = {name: text for name, text in annotations.items() if not name.startswith(bundle.PREFIX)}
    linux = made["linux"]
    linux["cgroupsPath"] = cgroup.absolute(linux["cgroupsPath"])
    linux["devices"] = [_device(entry) for entry in linux.get("devices") or []]
    linux["resources"] = _resources(config)
    inside = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _identify(made["process"], inside, config)
        for entry in made.get("mounts") or []:
            _fill(entry, inside)
            entry["options"] = [word for word in entry.get("options") or [] if word not in _OURS]
    finally:
        os.close(inside)
    return made


def _identify(process: dict[str, Any], inside: int, config: dict[str, Any]) -> None:
    """Names of users and groups become numbers, by the image's own files."""
    annotations = config.get("annotations") or {}
    named, groups = annotations.get(bundle.USER) or "", json.loads(annotations.get(bundle.GROUPS) or "[]")
    who = init.identify(inside, process, named=named, groups=groups, exact=False)
    process["user"] = {
        **(process.get("user") or {}),
        "uid": who.uid,
        "gid": who.gid,
        "additionalGids": list(who.groups),
    }
    process["x-devenv-user"] = named
    if not any(item.startswith("HOME=") for item in process.get("env") or []):
        process["env"] = [*(process.get("env") or []), f"HOME={who.home}"]
    if who.uid != 0:
        for name in ("effective", "permitted"):
            process["capabilities"][name] = []


def _fill(entry: dict[str, Any], inside: int) -> None:
    """A new volume begins with what the image has in its place."""
    if not mountoptions.parse(entry.get("options") or []).copyup or not os.path.isdir(entry["source"]):
        return
    try:
        below = openat2.in_root(inside, entry["destination"], os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        copyup.fill(entry["source"], below)
    finally:
        os.close(below)


def _device(entry: dict[str, Any]) -> dict[str, Any]:
    mode, number, (uid, gid) = devices.described(entry)
    return {
        "path": entry["path"],
        "type": "b" if stat.S_ISBLK(mode) else "c",
        "major": os.major(number),
        "minor": os.minor(number),
        "fileMode": stat.S_IMODE(mode),
        "uid": uid,
        "gid": gid,
    }


def _resources(config: dict[str, Any]) -> dict[str, Any]:
    """With the rules for devices written out: what is not allowed is forbidden."""
    limits = dict(config["linux"].get("resources") or {})
    rules = [{"allow": False, "access": "rwm"}, *(limits.get("devices") or [])]
    for entry in config["linux"].get("devices") or []:
        mode, number, _ = devices.described(entry)
        rules.append(
            {
                "allow": True,
                "type": "b" if stat.S_ISBLK(mode) else "c",
                "major": os.major(number),
                "minor": os.minor(number),
                "access": entry.get("x-devenv-access") or "rwm",
            }
        )
    return {**limits, "devices": rules}


def process(described: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Another process, of ``joining``, in the container of ``config``, which is one of ``configuration``.

    Raises ``ContainerError`` for a user's name: only the container could say what number it has.
    """
    made = {name: value for name, value in described.items() if name != "groups"}
    given = described.get("user")
    if isinstance(given, str):
        uid, _, gid = given.partition(":")
        if given in {"", "0:0"} or given == (config["process"].get("x-devenv-user") or ""):
            made["user"] = config["process"]["user"]
        elif uid.isdecimal() and (not gid or gid.isdecimal()):
            made["user"] = {"uid": int(uid), "gid": int(gid or 0)}
        else:
            raise errors.ContainerError(f"`{given}` can't be looked up in this container", hint="give numbers")
    return made
