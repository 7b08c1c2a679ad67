"""Devices by their names in the Container Device Interface: ``vendor.com/class=name``, from the files of a machine.

A file in one of ``folders()`` describes a kind of devices, and what a container is given to use one: nodes, mounts,
variables, groups, hooks (https://github.com/cncf-tags/container-device-interface, SPEC.md 0.3 to 1.1). A folder that
comes later wins; a device that two files of one folder describe is nobody's, as the specification has it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from devenv import errors

NAME = re.compile(
    r"(?P<kind>[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]/[A-Za-z][A-Za-z0-9_.-]*)=(?P<name>[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?)",
    re.ASCII,
)
_VERSION = re.compile(r"(0\.[3-8]|1\.[01])\.\d+", re.ASCII)
# At which point of a container's life; the others are left to whoever has a daemon to run them.
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer")


class Edits(NamedTuple):
    """What containers are given, as the files have it: lists of objects of the specification."""

    env: tuple[str, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    hooks: tuple[Mapping[str, Any], ...] = ()
    groups: tuple[int, ...] = ()

    def and_(self, other: Edits) -> Edits:
        return Edits(
            env=(*self.env, *other.env),
            nodes=_once(self.nodes, other.nodes),
            mounts=_once(self.mounts, other.mounts),
            hooks=_once(self.hooks, other.hooks),
            groups=(*self.groups, *other.groups),
        )


def _once(some: tuple[Mapping[str, Any], ...], more: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    """What a kind's devices have in common is given once."""
    return (*some, *(each for each in more if each not in some))


class _Described(NamedTuple):
    file: str
    edits: Edits  # of the kind and of the device


def folders() -> list[str]:
    """The later ones win. ``DEVENV_CDI_SPEC_DIRS`` names others, with colons between them."""
    given = os.environ.get("DEVENV_CDI_SPEC_DIRS")
    return given.split(":") if given else ["/etc/cdi", "/var/run/cdi"]


class Registry:
    """What the files say, read once."""

    def __init__(self) -> None:
        self._devices: dict[str, _Described] = {}
        self._broken: dict[str, str] = {}  # by file
        for folder in folders():
            self._devices |= self._of_folder(folder)

    def names(self, kind: str) -> list[str]:
        """The names of a kind's devices, numbers in their order first."""
        found = [name.partition("=")[2] for name in self._devices if name.startswith(f"{kind}=")]
        return sorted(found, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))

    def edits(self, names: Iterable[str]) -> Edits:
        """Of all these devices together. Raises ``HostError`` for one that is not described."""
        found = Edits()
        for name in dict.fromkeys(names):
            described = self._devices.get(name)
            if described is None:
                raise self._unknown(name)
            found = found.and_(described.edits)
        return found

    def _unknown(self, name: str) -> errors.HostError:
        kind, _, device = name.partition("=")
        known = self.names(kind)
        note = "; ".join(f"`{file}` can't be used: {reason}" for file, reason in sorted(self._broken.items()))
        hint = f"a file in {' or '.join(folders())} has to describe it"
        if kind.startswith("nvidia.com/"):
            hint = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        if known:
            hint = f"there are: {', '.join(known)}"
        return errors.HostError(
            f"this machine has no device `{device}` of kind `{kind}` (CDI)", hint=hint, note=note or None
        )

    def _of_folder(self, folder: str) -> dict[str, _Described]:
        found: dict[str, _Described] = {}
        twice: set[str] = set()
        try:
            files = sorted(name for name in os.listdir(folder) if name.endswith((".json", ".yaml", ".yml")))
        except OSError:
            return {}
        for file in (f"{folder}/{name}" for name in files):
            try:
                described = dict(_read(file))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
                self._broken[file] = _reason(exc)
                continue
            twice |= found.keys() & described.keys()
            found |= described
        return {name: each for name, each in found.items() if name not in twice}


def _reason(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    return f"it has no {exc}" if isinstance(exc, KeyError) else str(exc).partition("\n")[0]


def _read(file: str) -> Iterator[tuple[str, _Described]]:
    with open(file, "rb") as opened:
        text = opened.read()
    found = _parse(text)
    version, kind = str(found["cdiVersion"]), str(found["kind"])
    if not _VERSION.fullmatch(version):
        raise ValueError(f"version {version} of the specification is none of 0.3 to 1.1")
    common = _edits(found.get("containerEdits") or {})
    for device in found["devices"]:
        name = f"{kind}={device['name']}"
        if not NAME.fullmatch(name):
            raise ValueError(f"`{name}` is no name of a device")
        yield name, _Described(file, common.and_(_edits(device["containerEdits"])))


def _parse(text: bytes) -> Any:
    import yaml

    # JSON is YAML.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError as exc:
        raise ValueError(f"it is no YAML: {exc}") from exc


def _edits(given: Mapping[str, Any]) -> Edits:
    unknown = sorted(set(given) - {"env", "deviceNodes", "mounts", "hooks", "additionalGids"})
    if unknown:
        raise ValueError(f"`{unknown[0]}` can't be had here")
    for hook in given.get("hooks") or []:
        if hook["hookName"] not in _HOOKS:
            raise ValueError(f"a hook `{hook['hookName']}` is not run here")
    nodes = given.get("deviceNodes") or []
    mounts = given.get("mounts") or []
    for node in nodes:
        node["path"]
    for mount in mounts:
        mount["hostPath"], mount["containerPath"]
    return Edits(
        env=tuple(map(str, given.get("env") or ())),
        nodes=tuple(nodes),
        mounts=tuple(mounts),
        hooks=tuple(given.get("hooks") or ()),
        groups=tuple(int(number) for number in given.get("additionalGids") or () if number),
    )
