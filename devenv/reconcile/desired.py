"""What should be there: the canonical project, the images its services resolved to, and how many of each.

An `Environment` is kept on disk (``projects/<id>/desired.json``) as soon as a command has decided upon it, so that a
supervisor that was killed in the middle of an `up` knows what it was about.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from devenv import errors
from devenv.reconcile import cdidevices, confinement, convert, journal
from devenv.util import fs, identity, paths

# Attributes that say when, whether or how often a service runs, not what its containers are.
VOLATILE = frozenset(
    {"attach", "build", "deploy", "depends_on", "develop", "once", "profiles", "proxy", "pull_policy", "scale"}
)
_PARTS_OF_DEPLOY = ("resources", "restart_policy")

Definition = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    project: Mapping[str, Any]  # canonical, with nothing escaped
    directory: str
    config_files: tuple[str, ...]
    scale: Mapping[str, int]  # what --scale said; it wins over the spec
    disabled: frozenset[str] = frozenset()  # services of profiles that are not active
    underway: tuple[str, ...] | None = None  # the services of an `up` that has begun; None between commands
    watch: tuple[str, ...] | None = None  # services whose files are watched in the background
    sources: tuple[str, ...] = ()  # files that the spec depends on
    rerun: tuple[str, ...] = ()  # folder and options of another command about this project: one that builds

    @property
    def services(self) -> Mapping[str, convert.Service]:
        return self.project.get("services") or {}

    def definitions(self, kind: str) -> Mapping[str, Definition]:
        """The top-level ``networks``, ``volumes``, ``configs`` or ``secrets``."""
        return self.project.get(kind) or {}

    def replicas(self, name: str) -> int:
        if name in self.scale:
            return self.scale[name]
        service = self.services[name]
        if service.get("scale") is not None:
            return int(service["scale"])
        deploy = service.get("deploy") or {}
        return int(deploy["replicas"]) if deploy.get("replicas") is not None else 1

    def to_json(self) -> dict[str, Any]:
        return {
            "project": self.project,
            "directory": self.directory,
            "config_files": list(self.config_files),
            "scale": dict(self.scale),
            "disabled": sorted(self.disabled),
            "underway": None if self.underway is None else list(self.underway),
            "watch": None if self.watch is None else list(self.watch),
            "sources": list(self.sources),
            "rerun": list(self.rerun),
        }


def from_json(data: Mapping[str, Any]) -> Environment:
    return Environment(
        project=_on_bridges(data["project"]),
        directory=data["directory"],
        config_files=tuple(data.get("config_files") or ()),
        scale=dict(data.get("scale") or {}),
        disabled=frozenset(data.get("disabled") or ()),
        underway=None if data.get("underway") is None else tuple(data["underway"]),
        watch=tuple(data["watch"]) if isinstance(data.get("watch"), list) else None,
        sources=tuple(data.get("sources") or ()),
        rerun=tuple(data.get("rerun") or ()),
    )


def _on_bridges(project: Mapping[str, Any]) -> Mapping[str, Any]:
    """`network_mode: bridge` is Docker's own default network; here it is the project's."""
    services = project.get("services") or {}
    moved = {
        name: {**service, "network_mode": None, "networks": {"default": None}}
        for name, service in services.items()
        if service.get("network_mode") in {"bridge", "default"}
    }
    if not moved:
        return project
    networks = {"default": {"name": f"{project['name']}_default"}, **(project.get("networks") or {})}
    return {**project, "services": {**services, **moved}, "networks": networks}


def save(where: paths.Paths, project: identity.Project, environment: Environment) -> None:
    folder = where.project_data(project.id)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    kept = environment.to_json()
    kept["project"], values = _without_values(environment.project)
    run = where.project_run(project.id)
    if values:
        # In memory (`<run>` is a tmpfs), for a supervisor that takes over; the disk never has them.
        os.makedirs(run, mode=0o700, exist_ok=True)
        fs.write_json(f"{run}/values.json", values)
    else:
        fs.remove(f"{run}/values.json")
    fs.write_json(f"{folder}/desired.json", kept)


def load(where: paths.Paths, project: identity.Project) -> Environment | None:
    data = fs.read_json(f"{where.project_data(project.id)}/desired.json")
    values = fs.read_json(f"{where.project_run(project.id)}/values.json") or {}
    try:
        return None if data is None else from_json({**data, "project": _with_values(data["project"], values)})
    except (KeyError, TypeError, AttributeError):
        return None


def forget(where: paths.Paths, project: identity.Project) -> None:
    fs.remove(f"{where.project_run(project.id)}/values.json")
    fs.remove(f"{where.project_data(project.id)}/desired.json")
    journal.forget(where, project)
    fs.remove_folder(where.project_data(project.id))


def _without_values(project: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """The project without what variables and commands said of its configs and secrets, and that by itself."""
    stripped, values = dict(project), {}
    for kind in ("configs", "secrets"):
        definitions = project.get(kind) or {}
        hidden = {name: each for name, each in definitions.items() if is_hidden(each) and "content" in each}
        if hidden:
            values[kind] = {name: each["content"] for name, each in hidden.items()}
            without = {
                name: {key: item for key, item in each.items() if key != "content"} for name, each in hidden.items()
            }
            stripped[kind] = {**definitions, **without}
    return stripped, values


def _with_values(project: Mapping[str, Any], values: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    found = dict(project)
    for kind, contents in values.items():
        definitions = found.get(kind) or {}
        known = {name: {**definitions[name], "content": text} for name, text in contents.items() if name in definitions}
        found[kind] = {**definitions, **known}
    return found


def is_hidden(definition: Definition) -> bool:
    """Whether its content is somebody's secret rather than a part of the spec."""
    return bool(definition.get("environment") or (definition.get("x-devenv") or {}).get("command"))


def sections(environment: Environment, name: str, image_id: str) -> dict[str, str]:
    """Attribute -> digest: what a container must have in common with its service not to be made again."""
    service = environment.services[name]
    parts: dict[str, Any] = {key: value for key, value in service.items() if key not in VOLATILE}
    parts["x-devenv"] = {key: value for key, value in (service.get("x-devenv") or {}).items() if key not in VOLATILE}
    parts["image"] = image_id
    if service.get("volumes"):
        parts["volumes"] = [
            [_without_reference(entry) for entry in service["volumes"]],
            {key: _volume(environment, key) for key in sorted(_volumes(service))},
        ]
    if service.get("pre_start"):
        parts["pre_start"] = [
            {key: value for key, value in hook.items() if key != "reference"} for hook in service["pre_start"]
        ]
    deploy = service.get("deploy") or {}
    parts.update({f"deploy.{part}": deploy[part] for part in _PARTS_OF_DEPLOY if deploy.get(part)})
    if cdidevices.asks(service):
        # With a new driver its files are others.
        parts["gpus"] = [service.get("gpus"), cdidevices.edits(service)]
    profile = confinement.digest(service, environment.directory)
    if profile:
        parts["security_opt"] = [service["security_opt"], profile]
    for kind in ("configs", "secrets"):
        if service.get(kind):
            contents = {use["source"]: _content_digest(environment, kind, use["source"]) for use in service[kind]}
            parts[kind] = [service[kind], contents]
    definitions = environment.definitions("networks")
    parts["networks"] = [
        service.get("networks"),
        {key: definitions[key]["name"] for key in service.get("networks") or {}},
    ]
    return {key: _digest(value) for key, value in sorted(parts.items()) if value not in (None, [], {}, "")}


def _volumes(service: Mapping[str, Any]) -> set[str]:
    """Those that have a definition of their own."""
    return {str(each["source"]) for each in service["volumes"] if each.get("type") == "volume" and each.get("source")}


def _volume(environment: Environment, key: str) -> list[Any]:
    """What makes it another one with other data."""
    found = environment.definitions("volumes").get(key) or {}
    return [found.get("name"), bool(found.get("external")), found.get("driver_opts") or {}]


def _without_reference(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """A mounted image is the same by whatever name it was had: see ``imagemounts``."""
    if "digest" not in (entry.get("image") or {}):
        return entry
    return {**entry, "image": {key: value for key, value in entry["image"].items() if key != "reference"}}


def config_digest(found: Mapping[str, str]) -> str:
    return _digest(dict(found))


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def content(environment: Environment, kind: str, source: str) -> bytes | None:
    """The bytes of a config or secret that devenv keeps itself; None for a file, which is mounted in place."""
    definition = environment.definitions(kind)[source]
    if definition.get("external"):
        raise errors.ContainerError(
            f"{kind[:-1]} `{source}` is external, and there is nobody to ask for it",
            hint=f"give it a `file:`, an `environment:` or, for a config, a `content:` under `{kind}: {source}:`",
        )
    if definition.get("content") is not None:
        return str(definition["content"]).encode()
    return b"" if is_hidden(definition) else None


def _content_digest(environment: Environment, kind: str, source: str) -> str:
    definition = environment.definitions(kind)[source]
    kept = content(environment, kind, source)
    if kept is not None:
        return hashlib.sha256(kept).hexdigest()
    path = str(definition.get("file"))
    try:
        # An editor that saves by renaming leaves the container with the old file, so new bytes are a new container.
        with open(path, "rb") as file:
            return hashlib.sha256(file.read(1 << 20)).hexdigest()
    except OSError:
        return path
