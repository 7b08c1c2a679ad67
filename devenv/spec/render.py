"""The canonical form as text: JSON as docker compose prints it, YAML without what is empty, or the model with `x-…`.

A `$` is doubled, so that the text is a spec again when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_BLKIO = {"path": "Path", "weight": "Weight", "rate": "Rate"}


def view(canonical: Mapping[str, Any]) -> dict[str, Any]:
    """What `docker compose config --format json` has: no models, and no contents that came from variables."""
    found = {name: value for name, value in canonical.items() if name not in {"models", "working_dir"}}
    for section in ("secrets", "configs"):
        if section in found:
            found[section] = {name: _public(section, item) for name, item in found[section].items()}
    services = found.get("services") or {}
    if any("blkio_config" in service for service in services.values()):
        found["services"] = {name: _blkio(service) for name, service in services.items()}
    return found


def _public(section: str, item: Mapping[str, Any]) -> dict[str, Any]:
    hidden = section == "secrets" or "environment" in item
    return {name: value for name, value in item.items() if name != "content" or not hidden}


def _blkio(service: dict[str, Any]) -> dict[str, Any]:
    config = service.get("blkio_config")
    if not config:
        return service
    made = {
        name: [{_BLKIO.get(key, key): item for key, item in entry.items()} for entry in value]
        if isinstance(value, list)
        else value
        for name, value in config.items()
    }
    return {**service, "blkio_config": made}


def to_json(canonical: Mapping[str, Any]) -> str:
    return _escape(json.dumps(view(canonical), indent=2, ensure_ascii=False))


def _escape(text: str) -> str:
    return text.replace("$", "$$")


def yaml_view(canonical: Mapping[str, Any]) -> dict[str, Any]:
    """As `docker compose config` prints it in YAML: models and nested `x-…` are there, empty things aren't."""
    found = {name: value for name, value in canonical.items() if name != "working_dir"}
    for section in ("secrets", "configs"):
        if section in found:
            found[section] = {name: _public(section, item) for name, item in found[section].items()}
    found["services"] = {name: _lean(service) for name, service in (found.get("services") or {}).items()}
    if "networks" in found:
        found["networks"] = {
            name: {key: value for key, value in item.items() if key != "ipam" or value}
            for name, item in found["networks"].items()
        }
    return found


def _lean(service: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        name: value for name, value in service.items() if name not in {"command", "entrypoint"} or value is not None
    }
    deploy = found.get("deploy")
    if isinstance(deploy, dict):
        found["deploy"] = {
            name: value for name, value in deploy.items() if name not in {"resources", "placement"} or value
        }
    develop = found.get("develop")
    if isinstance(develop, dict) and develop.get("watch"):
        watch = [
            {name: value for name, value in rule.items() if name != "exec" or value != {"command": None}}
            for rule in develop["watch"]
        ]
        found["develop"] = {**develop, "watch": watch}
    return found


def to_yaml(value: Mapping[str, Any], *, escape: bool = True) -> str:
    import yaml

    text: str = yaml.dump(
        dict(value), Dumper=_dumper(), sort_keys=True, default_flow_style=False, allow_unicode=True, width=10_000
    )
    return _escape(text) if escape else text


def _dumper() -> Any:
    """Text that YAML would read as something else goes in quotes, by 1.1's rules and 1.2's alike; no aliases."""
    import yaml

    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc, valid-type]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value and not any(line.endswith(" ") for line in value.split("\n")) else None
        from devenv.spec import scalars

        if style is None and not isinstance(scalars.resolve(value), str):
            style = '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper
