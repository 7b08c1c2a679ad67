"""``devenv build --print``: what would be built as a file for ``docker buildx bake``, as docker compose prints it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devenv.build import request
from devenv.image import reference


def document(requests: Mapping[str, request.Request]) -> dict[str, Any]:
    return {
        "group": {"default": {"targets": sorted(requests)}},
        "target": {name: _target(requests[name]) for name in sorted(requests)},
    }


def _target(asked: request.Request) -> dict[str, Any]:
    fields = {
        "context": asked.context,
        "contexts": dict(asked.contexts),
        "dockerfile": asked.dockerfile or ("" if asked.inline is not None else "Dockerfile"),
        "dockerfile-inline": asked.inline,
        "args": {name: value for name, value in asked.arguments.items() if value is not None},
        "labels": dict(asked.labels),
        "tags": [reference.parse(each).familiar for each in asked.tags],
        "cache-from": [_exchange(each) for each in asked.cache_from],
        "cache-to": [_exchange(each) for each in asked.cache_to],
        "target": asked.target,
        "secret": [_secret(each) for each in asked.secrets],
        "ssh": [_agent(each) for each in asked.ssh],
        "platforms": list(asked.platforms),
        "pull": asked.pull,
        "no-cache": asked.no_cache,
        "no-cache-filter": sorted(asked.no_cache_stages),
        "network": asked.network,
        "shm-size": str(asked.shm_size) if asked.shm_size else "",
        "ulimits": [f"{each.name}={each.soft}:{each.hard}" for each in asked.ulimits],
        "entitlements": sorted(asked.entitlements),
        "extra-hosts": dict(asked.extra_hosts),
        "output": ["type=registry" if asked.push else "type=docker"],
    }
    return {key: value for key, value in fields.items() if value not in (None, "", [], {}, False)}


def _exchange(given: request.Exchange) -> str:
    return ",".join((f"type={given.kind}", *(f"{key}={value}" for key, value in given.fields.items())))


def _secret(given: request.Secret) -> str:
    if given.variable:
        return f"id={given.id},type=env,env={given.variable}"
    return f"id={given.id},type=file,src={given.path}" if given.path else f"id={given.id}"


def _agent(given: request.Agent) -> str:
    return f"{given.id}={','.join(given.paths)}" if given.paths else given.id
