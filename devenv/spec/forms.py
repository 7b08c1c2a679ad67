"""Short forms to long ones, attribute by attribute, and the defaults that a long form has.

Runs after the shape has been checked, so a value has one of the types that its attribute may have. What can't be read
goes to the report; with ``lenient`` (no interpolation) a value that is no long form yet stays as it is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devenv.spec import diagnostic, mounts, portforms, scalars


class Lengthener:
    def __init__(self, report: diagnostic.Report, *, lenient: bool = False) -> None:
        self.report = report
        self.lenient = lenient

    def spec(self, value: dict[str, Any]) -> dict[str, Any]:
        for name, service in (value.get("services") or {}).items():
            if isinstance(service, dict):
                self.service(service, ("services", name))
        for section in ("volumes", "networks", "secrets", "configs"):
            for name, item in (value.get(section) or {}).items():
                if isinstance(item, dict):
                    self._external(item, (section, name))
        return value

    def service(self, service: dict[str, Any], path: diagnostic.Path) -> None:
        for name, convert in _SERVICE.items():
            if name in service:
                service[name] = self._try(convert, service[name], (*path, name))
        build = service.get("build")
        if isinstance(build, dict):
            if isinstance(build.get("secrets"), list):
                build["secrets"] = [_file(entry) for entry in build["secrets"]]
            for name, convert in _BUILD.items():
                if name in build:
                    build[name] = self._try(convert, build[name], (*path, "build", name))
        for name, convert in _ENTRIES.items():
            entries = service.get(name)
            if isinstance(entries, list):
                service[name] = [self._try(convert, entry, (*path, name, i)) for i, entry in enumerate(entries)]
        if isinstance(service.get("ports"), list):
            service["ports"] = self._ports(service["ports"], (*path, "ports"))
        for rule in (service.get("develop") or {}).get("watch") or []:
            for name in ("ignore", "include"):
                if name in rule:
                    rule[name] = strings(rule[name])

    def _try(self, convert: Callable[[Any], Any], value: Any, path: diagnostic.Path) -> Any:
        try:
            return convert(value)
        except ValueError as problem:
            if not self.lenient:
                shown = value if isinstance(value, str) else None
                self.report.add(path, f"`{diagnostic.dotted(path)}`: {problem}", value=shown)
            return value

    def _ports(self, entries: list[Any], path: diagnostic.Path) -> list[Any]:
        found: list[Any] = []
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                found.append(entry)
                continue
            longer = self._try(lambda text: portforms.parse(scalars.show(text)), entry, (*path, index))
            found += longer if isinstance(longer, list) else [entry]
        return found

    def _external(self, item: dict[str, Any], path: diagnostic.Path) -> None:
        external = item.get("external")
        if not isinstance(external, dict):
            return
        item["external"] = True
        if "name" in external:
            where = diagnostic.dotted(path)
            self.report.warn(f"`{where}.external.name` is deprecated: write `name:` and `external: true`")
            if "name" in item and item["name"] != external["name"]:
                self.report.add(path, f"`{where}` has two names: `name` and `external.name`", hint="keep `name`")
            item.setdefault("name", external["name"])


def strings(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _build(value: Any) -> Any:
    return {"context": value} if isinstance(value, str) else value


def _depends_on(value: Any) -> Any:
    if isinstance(value, list):
        return {name: {"condition": "service_started", "required": True} for name in value}
    for entry in value.values():
        if isinstance(entry, dict):
            entry.setdefault("condition", "service_started")
            entry.setdefault("required", True)
    return value


def _env_file(value: Any) -> Any:
    found = []
    for entry in strings(value):
        longer = {"path": entry} if isinstance(entry, str) else entry
        longer.setdefault("required", True)
        found.append(longer)
    return found


def _extends(value: Any) -> Any:
    return {"service": value} if isinstance(value, str) else value


def _gpus(value: Any) -> Any:
    return [{"count": "all"}] if isinstance(value, str) else value


def _names(value: Any) -> Any:
    return dict.fromkeys(value) if isinstance(value, list) else value


def _mount(value: Any) -> Any:
    return mounts.parse(value) if isinstance(value, str) else value


def _device(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    parts = value.split(":")
    if len(parts) > 3:
        raise ValueError(f"`{value}` has too many colons: it is HOST:CONTAINER:PERMISSIONS")
    target = parts[1] if len(parts) > 1 and parts[1] else parts[0]
    return {"source": parts[0], "target": target, "permissions": parts[2] if len(parts) == 3 else "rwm"}


def _file(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def _key_value(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    found = {}
    for entry in value:
        name, equals, rest = entry.partition("=")
        if not equals:
            raise ValueError(f"`{entry}` must be NAME=VALUE")
        found[name] = rest
    return found


def _ssh(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    found: dict[str, Any] = {}
    for entry in value:
        name, equals, path = entry.partition("=")
        if not equals and name != "default":
            raise ValueError(f"`{entry}` must be `default` or ID=PATH")
        found[name] = path if equals else None
    return found


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else scalars.show(value)


_SERVICE: dict[str, Callable[[Any], Any]] = {
    "build": _build,
    "depends_on": _depends_on,
    "env_file": _env_file,
    "label_file": strings,
    "extends": _extends,
    "gpus": _gpus,
    "networks": _names,
    "models": _names,
    "dns": strings,
}
_BUILD: dict[str, Callable[[Any], Any]] = {
    "provenance": _text,
    "sbom": _text,
    "additional_contexts": _key_value,
    "ssh": _ssh,
}
_ENTRIES: dict[str, Callable[[Any], Any]] = {
    "volumes": _mount,
    "devices": _device,
    "secrets": _file,
    "configs": _file,
}


def omit_empty(value: dict[str, Any]) -> None:
    """An empty entry of `dns` comes from a variable that isn't set, and means none."""
    for service in (value.get("services") or {}).values():
        if isinstance(service, dict) and isinstance(service.get("dns"), list):
            service["dns"] = [entry for entry in service["dns"] if entry not in {None, ""}]


def defaults(value: dict[str, Any]) -> dict[str, Any]:
    """What a long form means where it says nothing."""
    for service in (value.get("services") or {}).values():
        if not isinstance(service, dict):
            continue
        if isinstance(service.get("build"), dict):
            service["build"].setdefault("context", ".")
        for secret in service.get("secrets") or []:
            secret.setdefault("target", f"/run/secrets/{secret.get('source')}")
        for port in service.get("ports") or []:
            if isinstance(port, dict):
                port.setdefault("protocol", "tcp")
                port.setdefault("mode", "ingress")
        reservations = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
        for device in [*(reservations.get("devices") or []), *(service.get("gpus") or [])]:
            if isinstance(device, dict) and "count" not in device and "device_ids" not in device:
                device["count"] = "all"
        for mount in service.get("volumes") or []:
            if isinstance(mount, dict) and isinstance(mount.get("bind"), dict):
                mount["bind"].setdefault("create_host_path", True)
    return value
