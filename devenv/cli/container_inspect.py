"""``devenv container inspect``: all about containers, in Docker's field names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from devenv import errors
from devenv.cli import container_ls, containing, formats, inventory, listing
from devenv.network import store as networks
from devenv.reconcile import record as records
from devenv.runtime import bundle, state
from devenv.util import paths

NEVER = "0001-01-01T00:00:00Z"  # Go's zero time


def command(
    ctx: typer.Context,
    *,
    names: Annotated[list[str], typer.Argument(metavar="CONTAINER...", show_default=False)],
    format: listing.InspectFormat = "",
    size: Annotated[bool, typer.Option("--size", "-s", help="Show how much they have written")] = False,
) -> None:
    """Show all about containers."""
    del ctx
    where = paths.locate()
    containers = inventory.load(where)
    found, problems = [], []
    for name in names:
        try:
            found.append(described(where, containing.find(containers, name), size=size))
        except errors.DevenvError as exc:
            problems.append(exc)
    listing.show_inspected(found, format)
    listing.report(problems)


def described(where: paths.Paths, item: inventory.Container, *, size: bool = False) -> dict[str, Any]:
    made = item.record
    config = bundle.load(item.folder, name=made.name)
    process = config.get("process") or {}
    words = list(process.get("args") or made.command)
    return {
        "Id": made.id,
        "Created": formats.rfc3339(made.created),
        "Path": words[0] if words else "",
        "Args": words[1:],
        "State": _state(where, item),
        "Image": made.image_id,
        "HostsPath": f"{item.folder}/hosts",
        "HostnamePath": f"{item.folder}/hostname",
        "ResolvConfPath": f"{item.folder}/resolv.conf",
        "LogPath": f"{item.folder}/logs",
        "Name": f"/{made.name}",
        "RestartCount": getattr(state.load(item.folder), "restarts", 0),
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": _host_config(made, config),
        "GraphDriver": _layers(config),
        **({"SizeRw": container_ls.written(item.folder)} if size else {}),
        "Mounts": [_mount(each) for each in made.mounts],
        "Config": {
            "Hostname": made.hostname,
            "Domainname": made.domainname,
            "User": made.user,
            "Tty": made.tty,
            "OpenStdin": made.stdin_open,
            "Env": list(process.get("env") or []),
            "Cmd": list(made.command),
            **({"Healthcheck": made.healthcheck} if "test" in (made.healthcheck or {}) else {}),
            "Image": made.image,
            "WorkingDir": made.working_dir,
            "Labels": made.labels,
            "StopSignal": made.stop_signal,
            "StopTimeout": round(made.stop_grace_period),
        },
        "NetworkSettings": {"Ports": _ports(where, item), "Networks": _networks(where, made)},
    }


def _state(where: paths.Paths, item: inventory.Container) -> dict[str, Any]:
    health = records.health(where, item.record.id)
    return {
        "Status": item.state,
        "Running": item.state in {"running", "paused"},
        "Paused": item.state == "paused",
        "Restarting": item.state == "restarting",
        "OOMKilled": item.oom_killed,
        "Dead": False,
        "Pid": item.pid or 0,
        "ExitCode": 255 if item.state == "exited" and item.exit_code is None else item.exit_code or 0,
        "Error": "",
        "StartedAt": formats.rfc3339(item.started) if item.started else NEVER,
        "FinishedAt": formats.rfc3339(item.finished) if item.finished else NEVER,
        **({"Health": {"Status": item.health, "Log": health.get("log") or []}} if item.health else {}),
    }


def _host_config(made: records.Record, config: Mapping[str, Any]) -> dict[str, Any]:
    condition = str(made.restart.get("condition") or "none")
    names = {"none": "no", "any": "always"}
    return {
        "NetworkMode": made.network_mode or next(iter(made.networks), "none"),
        "RestartPolicy": {
            "Name": names.get(condition, condition),
            "MaximumRetryCount": int(made.restart.get("max_attempts") or 0),
        },
        "AutoRemove": made.auto_remove,
        "ReadonlyRootfs": bool((config.get("root") or {}).get("readonly")),
        "LogConfig": {"Type": made.logging.get("driver") or "json-file", "Config": made.logging},
        "Dns": made.dns.get("servers", []),
        "DnsSearch": made.dns.get("search", []),
        "DnsOptions": made.dns.get("options", []),
        "ExtraHosts": [f"{name}:{address}" for name, found in made.extra_hosts.items() for address in found],
        "Resources": (config.get("linux") or {}).get("resources") or {},
    }


def overlays(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What its root is made of; the root itself first."""
    layout = json.loads((config.get("annotations") or {}).get(bundle.ROOTFS) or "{}")
    return list(layout.get("overlays") or [])


def _layers(config: Mapping[str, Any]) -> dict[str, Any]:
    found = overlays(config)
    if not found:
        return {"Name": "overlay", "Data": {}}
    top = found[0]
    return {
        "Name": "overlay",
        "Data": {"LowerDir": ":".join(top["lower"]), "UpperDir": top["upper"], "WorkDir": top["work"]},
    }


def _mount(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Type": given.get("type") or "",
        **({"Name": given["name"], "Driver": "local"} if given.get("name") else {}),
        "Source": given.get("source") or "",
        "Destination": given.get("target") or "",
        "Mode": "ro" if given.get("read_only") else "",
        "RW": not given.get("read_only"),
        "Propagation": "rprivate" if given.get("type") == "bind" else "",
    }


def _ports(where: paths.Paths, item: inventory.Container) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in inventory.publishers(where, item):
        name = f"{each.TargetPort}/{each.Protocol}"
        found.setdefault(name, None)
        if each.PublishedPort:
            found[name] = [*(found[name] or []), {"HostIp": each.URL, "HostPort": str(each.PublishedPort)}]
    return found


def _networks(where: paths.Paths, made: records.Record) -> dict[str, Any]:
    found = {}
    for network in networks.load_project(where, made.project_id):
        place = network.allocations.get(made.id)
        if place is not None:
            found[network.name] = {
                "Gateway": next(iter(network.gateways), ""),
                "IPAddress": place.ipv4,
                "GlobalIPv6Address": place.ipv6,
                "MacAddress": place.mac,
                "DNSNames": [made.name, made.service, made.id[:12]],
            }
    return found
