"""Devices that a service asks for by kind: `gpus`, `deploy.resources.reservations.devices`, and CDI names in `devices`.

All of them are described by the machine's CDI files (``spec.cdi``). Docker asks a driver's own hook for the first two
where there are none; here there is one way, which works for an ordinary user as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from devenv import errors
from devenv.reconcile import convert
from devenv.runtime import bundle
from devenv.spec import cdi

_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu")


def asks(service: convert.Service) -> bool:
    return bool(requests(service) or _named(service))


def requests(service: convert.Service) -> list[Mapping[str, Any]]:
    reservations = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    # What `gpus` doesn't say is that they are GPUs.
    own = [{**each, "capabilities": each.get("capabilities") or ["gpu"]} for each in service.get("gpus") or []]
    return [*own, *(reservations.get("devices") or [])]


def edits(service: convert.Service) -> cdi.Edits:
    """What all of it comes to on this machine. Raises ``HostError`` for what is not here."""
    if not asks(service):
        return cdi.Edits()
    registry = cdi.Registry()
    return registry.edits([*_named(service), *(name for each in requests(service) for name in _meant(each, registry))])


def applied(options: bundle.Options, service: convert.Service) -> bundle.Options:
    """``options`` of the service's container, with its devices."""
    found = edits(service)
    if found == cdi.Edits():
        return options
    names = {each.partition("=")[0] for each in found.env}
    hooks: dict[str, list[Mapping[str, Any]]] = {}
    for hook in found.hooks:
        said = {key: hook[key] for key in ("path", "args", "env", "timeout") if hook.get(key)}
        hooks.setdefault(hook["hookName"], []).append(said)
    return options._replace(
        env=(*(each for each in options.env if each.partition("=")[0] not in names), *found.env),
        devices=(*options.devices, *map(_node, found.nodes)),
        mounts=(*options.mounts, *map(_mount, found.mounts)),
        additional_groups=(*options.additional_groups, *map(str, found.groups)),
        hooks={name: tuple(each) for name, each in hooks.items()},
    )


def _named(service: convert.Service) -> list[str]:
    return [entry["source"] for entry in service.get("devices") or [] if cdi.NAME.fullmatch(entry["source"])]


def _meant(request: Mapping[str, Any], registry: cdi.Registry) -> Iterator[str]:
    driver, ids = str(request.get("driver") or ""), request.get("device_ids") or []
    if driver == "cdi":
        yield from ids
        return
    kind = _kind(driver, request.get("capabilities") or [], registry)
    if ids:
        yield from (each if cdi.NAME.fullmatch(each) else f"{kind}={each}" for each in ids)
        return
    count = int(request.get("count") or -1)
    there = registry.names(kind)
    if count < 0:
        # Where a vendor has no word for all of them, they are taken one by one.
        yield from [f"{kind}=all"] if "all" in there or not there else [f"{kind}={name}" for name in there]
        return
    numbered = [name for name in there if name.isdecimal()]
    if len(numbered) < count:
        raise errors.HostError(
            f"{count} devices of kind `{kind}` are asked for, and this machine has {len(numbered)} (CDI)",
            hint="sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml" if kind == _GPUS[0] else None,
        )
    yield from (f"{kind}={name}" for name in numbered[:count])


def _kind(driver: str, capabilities: list[Any], registry: cdi.Registry) -> str:
    if "/" in driver:
        return driver
    if driver:
        return f"{driver}.com/gpu"
    if "gpu" not in capabilities:
        raise errors.HostError(
            f"no driver is named for devices with the capabilities {', '.join(map(str, capabilities))}",
            hint="`driver: cdi` and `device_ids: [vendor.com/class=name]` name them",
        )
    return next((kind for kind in _GPUS if registry.names(kind)), _GPUS[0])


def _node(node: Mapping[str, Any]) -> bundle.Device:
    return bundle.Device(node.get("hostPath") or node["path"], node["path"], node.get("permissions") or "rwm")


def _mount(mount: Mapping[str, Any]) -> bundle.Mount:
    options = tuple(mount.get("options") or ("ro", "nosuid", "nodev"))
    kind = mount.get("type") or "bind"
    if kind == "bind" and not {"bind", "rbind"} & set(options):
        options = ("rbind", "rprivate", *options)
    return bundle.Mount(kind, mount["hostPath"], mount["containerPath"], options)
