"""What a spec implies and doesn't say: the default network, names of resources, dependencies that follow from links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devenv.spec import mounts, scalars

NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


def normalise(spec: dict[str, Any], name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    spec["name"] = name
    _networks(spec)
    for service in (spec.get("services") or {}).values():
        if isinstance(service, dict):
            _service(service, environment)
    _names(spec, name)
    return spec


def _networks(spec: dict[str, Any]) -> None:
    networks = dict(spec.get("networks") or {})
    used = False
    for service in (spec.get("services") or {}).values():
        if not isinstance(service, dict) or "provider" in service or "network_mode" in service:
            continue
        if not service.get("networks"):
            service["networks"] = {"default": None}
        used = used or "default" in service["networks"]
    if used:
        networks.setdefault("default", None)
    if networks:
        spec["networks"] = networks


def _service(service: dict[str, Any], environment: Mapping[str, str]) -> None:
    if service.get("pull_policy") == "if_not_present":
        service["pull_policy"] = "missing"
    build = service.get("build")
    if isinstance(build, dict):
        if build.get("context") is None:
            build["context"] = "."
        if build.get("dockerfile") is None and build.get("dockerfile_inline") is None:
            build["dockerfile"] = "Dockerfile"
        if "args" in build:
            build["args"] = resolve(build["args"], environment, keep=False)
    if "environment" in service:
        service["environment"] = resolve(service["environment"], environment, keep=True)
    for mount in service.get("volumes") or []:
        if isinstance(mount, dict) and isinstance(mount.get("target"), str):
            mount["target"] = mounts.clean(mount["target"])
    needed = _implied(service)
    if needed:
        depends_on = service.setdefault("depends_on", {})
        for name, restart in needed.items():
            depends_on.setdefault(name, {"condition": "service_started", "restart": restart, "required": True})
    if service.get("image"):
        for hook in service.get("pre_start") or []:
            hook.setdefault("image", service["image"])


def _implied(service: dict[str, Any]) -> dict[str, bool]:
    """Services that this one can't start without, and whether it restarts with them."""
    found: dict[str, bool] = {}
    for link in service.get("links") or []:
        found.setdefault(link.partition(":")[0] if link.count(":") == 1 else link, True)
    for namespace in NAMESPACES:
        value = service.get(namespace)
        if isinstance(value, str) and value.startswith("service:"):
            found.setdefault(value.removeprefix("service:"), True)
    for source in service.get("volumes_from") or []:
        if not source.startswith("container:"):
            found.setdefault(source.partition(":")[0], False)
    return found


def resolve(value: Any, environment: Mapping[str, str], *, keep: bool) -> Any:
    """Names without a value take the surroundings'; those that have none there stay without when ``keep``."""
    if isinstance(value, list):
        found = []
        for entry in value:
            if "=" in entry:
                found.append(entry)
            elif entry in environment:
                found.append(f"{entry}={environment[entry]}")
            elif keep:
                found.append(entry)
        return found
    if isinstance(value, dict):
        mapping = {}
        for name, item in value.items():
            if item is not None:
                mapping[name] = item
            elif name in environment:
                mapping[name] = environment[name]
            elif keep:
                mapping[name] = None
        return mapping
    return value


def _names(spec: dict[str, Any], project: str) -> None:
    for section in ("networks", "volumes", "configs", "secrets"):
        items = spec.get(section)
        for key, item in list((items or {}).items()):
            resource = {} if item is None else item
            if not resource.get("name"):
                external = resource.get("external")
                resource["name"] = (
                    key if external in {True, "true", "True", "1", "t", "T", "TRUE"} else f"{project}_{key}"
                )
            items[key] = resource  # type: ignore[index]


def file_contents(spec: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Contents that come from variables: kept for whoever mounts them, and left out of what is printed."""
    for service in (spec.get("services") or {}).values():
        listed = service.get("environment") if isinstance(service, dict) else None
        if isinstance(listed, list):
            service["environment"] = [
                f"{entry}={environment[entry]}" if isinstance(entry, str) and entry in environment else entry
                for entry in listed
            ]
    for section in ("secrets", "configs"):
        for item in (spec.get(section) or {}).values():
            if isinstance(item, dict) and isinstance(item.get("environment"), str):
                content = environment.get(item["environment"])
                if content is not None:
                    item["content"] = content


def truth(value: Any) -> bool:
    return scalars.boolean(value) if isinstance(value, str) else bool(value)
