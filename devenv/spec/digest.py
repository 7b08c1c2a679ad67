"""What of a service makes its container another one: a digest that `up` compares, and the reasons when it differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from devenv.spec import source

# Changing these changes no container: how many there are, in what order they start, how images come to be.
VOLATILE = frozenset(
    {"build", "depends_on", "develop", "env_file", "label_file", "profiles", "pull_policy", "scale", "attach"}
    | {"ready", "proxy", "once"}
)
_VERSION = 1  # of what goes into the digest


def relevant(service: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that a container is made of, in canonical form and without empty ones."""
    found = {
        name: value
        for name, value in service.items()
        if name not in VOLATILE and not name.startswith("x-") and not _empty(value)
    }
    deploy = found.get("deploy")
    if isinstance(deploy, dict):
        # update_config and the like say how to replace a container, not what is in it.
        kept = {name: deploy[name] for name in ("labels", "resources", "restart_policy") if deploy.get(name)}
        if kept:
            found["deploy"] = kept
        else:
            del found["deploy"]
    return found


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def service_digest(
    service: Mapping[str, Any], *, project: Mapping[str, Any] | None = None, image_id: str | None = None
) -> str:
    """sha256 in hex. ``project`` (canonical) lets the content of configs and secrets enter."""
    subject: dict[str, Any] = {"version": _VERSION, "service": relevant(service)}
    if project is not None:
        files = {section: _files(service, project, section) for section in ("configs", "secrets")}
        subject["files"] = {section: found for section, found in files.items() if found}
    if image_id is not None:
        subject["image"] = image_id
    text = json.dumps(subject, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(service: Mapping[str, Any], project: Mapping[str, Any], section: str) -> dict[str, str]:
    defined = project.get(section) or {}
    used = sorted({mount.get("source", "") for mount in service.get(section) or []})
    return {name: content_digest(defined[name]) for name in used if name in defined}


def content_digest(item: Mapping[str, Any]) -> str:
    """Of a config's or secret's content; "missing" when its file can't be read."""
    if item.get("external"):
        return f"external:{item.get('name', '')}"
    content = item.get("content")
    if content is not None:
        return hashlib.sha256(str(content).encode()).hexdigest()
    if not item.get("file"):
        return "missing"
    try:
        return hashlib.sha256(source.read_bytes(item["file"], shown=item["file"])).hexdigest()
    except Exception:  # noqa: BLE001  whoever mounts it says what is wrong with it
        return "missing"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The attributes that differ between two services, for the cause of a recreation: ``environment.DEBUG``, …"""
    old, new = relevant(before), relevant(after)
    found: list[str] = []
    for name in sorted({*old, *new}):
        first, second = old.get(name), new.get(name)
        if first == second:
            continue
        if isinstance(first, dict) and isinstance(second, dict):
            keys = sorted(key for key in {*first, *second} if first.get(key) != second.get(key))
            found += [f"{name}.{key}" for key in keys]
        else:
            found.append(name)
    return found
