"""Records of networks on disk, and the one lock under which subnets and addresses are handed out.

    <data>/networks/.lock                    held while any record is read to be changed: subnets must not clash
    <data>/networks/<project id>/<name>.json one network: its subnets, its bridge, who has which address

The lock is a file, so engines of other projects and a new supervisor beside a dying one all agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import urllib.parse
from collections.abc import Iterator
from typing import Any

from devenv.network import types
from devenv.util import fs, lock, paths

SCHEMA = 1
# The owner of networks that were made by themselves, for whoever joins them; no project's id looks like it.
SHARED = "_shared"


@contextlib.contextmanager
def locked(where: paths.Paths) -> Iterator[None]:
    os.makedirs(f"{where.data}/networks", mode=0o700, exist_ok=True)
    with lock.held(f"{where.data}/networks/.lock"):
        yield


def wishes(spec: types.NetworkSpec) -> str:
    """What has to be the same for a network to be left as it is. Labels may change under it."""
    data = dataclasses.asdict(spec)
    del data["labels"], data["external"]
    data["driver_opts"] = dict(sorted(spec.driver_opts.items()))
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def _path(where: paths.Paths, project_id: str, name: str) -> str:
    return f"{where.networks(project_id)}/{urllib.parse.quote(name, safe=' ').replace('.', '%2E')}.json"


def save(where: paths.Paths, network: types.Network) -> None:
    os.makedirs(where.networks(network.project_id), mode=0o700, exist_ok=True)
    data = {
        "schema": SCHEMA,
        "name": network.name,
        "project_id": network.project_id,
        "driver": network.driver,
        "internal": network.internal,
        "subnets": [subnet._asdict() for subnet in network.subnets],
        "bridge": network.bridge,
        "mtu": network.mtu,
        "parent": network.parent,
        "mode": network.mode,
        "wishes": network.wishes,
        "created": network.created,
        "labels": dict(network.labels),
        "allocations": {key: value._asdict() for key, value in network.allocations.items()},
    }
    fs.write_json(_path(where, network.project_id, network.name), data)


def _decode(data: Any) -> types.Network | None:
    try:
        return types.Network(
            name=data["name"],
            project_id=data["project_id"],
            driver=data["driver"],
            internal=data["internal"],
            subnets=tuple(
                types.Subnet(**{**item, "reserved": tuple(item.get("reserved", ()))}) for item in data["subnets"]
            ),
            bridge=data["bridge"],
            mtu=data["mtu"],
            parent=data.get("parent", ""),
            mode=data.get("mode", ""),
            wishes=data["wishes"],
            created=data["created"],
            labels=data["labels"],
            allocations={key: types.Allocation(**value) for key, value in data["allocations"].items()},
        )
    except (KeyError, TypeError, AttributeError):
        return None


def load(where: paths.Paths, project_id: str, name: str) -> types.Network | None:
    return _decode(fs.read_json(_path(where, project_id, name)))


def load_project(where: paths.Paths, project_id: str) -> list[types.Network]:
    try:
        files = sorted(os.listdir(where.networks(project_id)))
    except FileNotFoundError:
        return []
    found = (_decode(fs.read_json(f"{where.networks(project_id)}/{file}")) for file in files if file.endswith(".json"))
    return [network for network in found if network is not None]


def load_all(where: paths.Paths) -> list[types.Network]:
    try:
        projects = sorted(entry.name for entry in os.scandir(f"{where.data}/networks") if entry.is_dir())
    except FileNotFoundError:
        return []
    return [network for project in projects for network in load_project(where, project)]


def id_of(network: types.Network) -> str:
    """64 hexadecimal digits, as Docker has them."""
    return hashlib.sha256(f"{network.project_id}/{network.name}".encode()).hexdigest()


def find(where: paths.Paths, name: str, *, but: str) -> types.Network | None:
    """A network of any other project by its full name, for ``external: true``."""
    return next((item for item in load_all(where) if item.name == name and item.project_id != but), None)


def delete(where: paths.Paths, project_id: str, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(where, project_id, name))
    with contextlib.suppress(OSError):
        os.rmdir(where.networks(project_id))
