"""From an environment and a request to what the planner takes. Pure, but for the bytes of configs and secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from devenv import errors
from devenv.graph import edges, traversal
from devenv.image import store as image_store
from devenv.network import store as network_store
from devenv.reconcile import convert_network, desired, jobs, planner

Params = Mapping[str, Any]


def depends_on(environment: desired.Environment) -> dict[str, dict[str, dict[str, Any]]]:
    """Service -> what it needs and on which terms, implied dependencies (links, shared networks) included."""
    return {name: dict(edges.depends_on(service)) for name, service in environment.services.items()}


def needed(environment: desired.Environment, params: Params) -> list[str]:
    """The services that a request is about, with what they need unless it says not."""
    roots = set(params.get("services") or environment.services)
    unknown = sorted(roots.difference(environment.services))
    if unknown:
        raise errors.UsageError(f"no such service: `{unknown[0]}`")
    if params.get("no_deps"):
        return sorted(roots)
    needs = {name: set(terms) & set(environment.services) for name, terms in depends_on(environment).items()}
    return sorted(traversal.closure(needs, roots))


def wanted(environment: desired.Environment, images: Mapping[str, image_store.Image]) -> planner.Desired:
    """``images`` by service; a service without one takes no part."""
    terms = depends_on(environment)
    networks = environment.definitions("networks")
    volumes = environment.definitions("volumes")
    done = jobs.find(environment)
    services = {}
    for name, service in environment.services.items():
        image = images.get(name)
        sections = desired.sections(environment, name, image.digest) if image is not None else {}
        named = [entry["source"] for entry in service.get("volumes") or [] if _is_named(entry)]
        services[name] = planner.DesiredService(
            name=name,
            config_digest=desired.config_digest(sections) if image is not None else "",
            sections=sections,
            image_id=image.digest if image is not None else "",
            replicas=environment.replicas(name),
            depends_on={other: each for other, each in terms[name].items() if other in environment.services},
            networks=tuple(sorted(convert_network.endpoints(service, networks)))
            if not service.get("network_mode")
            else (),
            volumes=tuple(sorted({volumes[key]["name"] for key in named})),
            volumes_from=tuple(
                source.partition(":")[0]
                for source in service.get("volumes_from") or []
                if not source.startswith("container:")
            ),
            pre_start=tuple(bool(hook.get("per_replica")) for hook in service.get("pre_start") or ()),
            once=name in done,
            container_name=str(service.get("container_name") or ""),
        )
    return planner.Desired(
        services=services,
        networks=tuple(
            planner.DesiredNetwork(
                name=definition["name"],
                key=key,
                digest=network_store.wishes(convert_network.network(definition)),
                external=bool(definition.get("external")),
            )
            for key, definition in sorted(networks.items())
        ),
        volumes=tuple(
            planner.DesiredVolume(name=definition["name"], key=key, external=bool(definition.get("external")))
            for key, definition in sorted(volumes.items())
        ),
        disabled=environment.disabled,
    )


def _is_named(entry: Mapping[str, Any]) -> bool:
    return (entry.get("type") or "volume") == "volume" and bool(entry.get("source"))


def options(params: Params) -> planner.UpOptions:
    return planner.UpOptions(
        services=tuple(params.get("services") or ()),
        again=frozenset() if params.get("as_dependencies") else frozenset(params.get("services") or ()),
        recreate=params.get("recreate") or "diverged",
        always_recreate_deps=bool(params.get("recreate_deps")),
        renew_anonymous_volumes=bool(params.get("renew_volumes")),
        no_deps=bool(params.get("no_deps")),
        no_start=bool(params.get("no_start")),
        remove_orphans=bool(params.get("remove_orphans")),
        scale=dict(params.get("scale") or {}),
        timeout=params.get("timeout"),
    )


def one_off(environment: desired.Environment, name: str, params: Params) -> desired.Environment:
    """The environment with ``name`` as `devenv run`'s options change it. Nothing restarts or checks a one-off."""
    service = {
        key: value
        for key, value in environment.services[name].items()
        if key not in {"container_name", "restart", "healthcheck", "deploy", "ports"}
    }
    if params.get("entrypoint") is not None:
        service["entrypoint"] = _words(params["entrypoint"])
        service["command"] = None
    if params.get("command"):
        service["command"] = list(params["command"])
    if params.get("environment"):
        service["environment"] = {**(service.get("environment") or {}), **params["environment"]}
    for key in ("user", "working_dir"):
        if params.get(key):
            service[key] = params[key]
    for key in ("cap_add", "cap_drop"):
        service[key] = [*(service.get(key) or []), *(params.get(key) or [])]
    service["tty"] = bool(params.get("tty"))
    service["stdin_open"] = bool(params.get("stdin_open"))
    if params.get("service_ports"):
        service["ports"] = environment.services[name].get("ports")
    elif params.get("ports"):
        service["ports"] = list(params["ports"])
    if params.get("volumes"):
        service["volumes"] = [*(service.get("volumes") or []), *params["volumes"]]
    if not params.get("use_aliases") and service.get("networks"):
        service["networks"] = {
            key: {**(given or {}), "aliases": [], "ipv4_address": None, "ipv6_address": None}
            for key, given in service["networks"].items()
        }
    services = {**environment.services, name: service}
    return dataclasses.replace(environment, project={**environment.project, "services": services})


def _words(text: Any) -> list[str]:
    import shlex

    return shlex.split(text) if isinstance(text, str) else list(text)
