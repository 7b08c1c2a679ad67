"""Which services are enabled, and which resources they use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple


class Selection(NamedTuple):
    enabled: dict[str, Any]
    disabled: dict[str, Any]


def select(spec: dict[str, Any], profiles: Sequence[str], named: Sequence[str] = ()) -> Selection:
    """A service without profiles is always enabled; naming one enables the profiles that it has."""
    active = set(profiles)
    services = spec["services"]
    for name in named:
        service = services.get(name)
        if service is not None and not _enabled(service, active):
            active.update(service.get("profiles") or [])
    enabled = {name: service for name, service in services.items() if _enabled(service, active)}
    disabled = {name: service for name, service in services.items() if name not in enabled}
    return Selection(enabled, disabled)


def _enabled(service: dict[str, Any], active: Collection[str]) -> bool:
    wanted = service.get("profiles") or []
    return not wanted or "*" in active or any(profile in active for profile in wanted)


def prune(spec: dict[str, Any]) -> None:
    """Leave out networks, volumes, secrets, configs and models that no enabled service uses."""
    used: dict[str, set[str]] = {name: set() for name in ("networks", "volumes", "secrets", "configs", "models")}
    for service in spec["services"].values():
        used["networks"].update(service.get("networks") or {})
        used["models"].update(service.get("models") or {})
        for mount in service.get("volumes") or []:
            if mount.get("type") == "volume" and mount.get("source"):
                used["volumes"].add(mount["source"])
        for section in ("secrets", "configs"):
            used[section].update(mount.get("source", "") for mount in service.get(section) or [])
        build_secrets = (service.get("build") or {}).get("secrets") or []
        used["secrets"].update(mount.get("source", "") for mount in build_secrets)
    for section, names in used.items():
        kept = {name: item for name, item in (spec.get(section) or {}).items() if name in names}
        if kept:
            spec[section] = kept
        else:
            spec.pop(section, None)
