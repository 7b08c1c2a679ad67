"""The routes as devenv's own files have them now: looked at again for each request, read again when they changed.

<data>/projects/<id>/desired.json    the services of a project, and what `proxy:` says of them
<data>/containers/<id>/              their containers, with the ports that the spec and the image name
<data>/containers/<id>/state.json    which process a container is: read when a connection is made
<run>/projects/<id>/names.json       and where it is in its networks
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from devenv.network import names, ports
from devenv.proxy import routes
from devenv.reconcile import desired, record
from devenv.runtime import state
from devenv.spec import fronting
from devenv.util import fs, identity, paths

_TICK = 100_000_000  # ns; the kernel's is 10 ms at most


class Place(NamedTuple):
    """Where a container's process is now."""

    pid: int
    start_time: int
    addresses: tuple[str, ...]


class Table:
    def __init__(self, where: paths.Paths) -> None:
        self._where = where
        self._seen: list[tuple[int, int]] | None = None
        self._routes = routes.Routes(())

    def routes(self) -> routes.Routes:
        # A container that comes or goes changes the folder, a service that changes replaces its project's file.
        seen = self._signature()
        if seen != self._seen:
            # A change right after this look may bear the same time: what is younger than a tick is looked at again.
            settled = max(stamp[0] for stamp in seen) < time.time_ns() - _TICK
            self._routes, self._seen = read(self._where), seen if settled else None
        return self._routes

    def _signature(self) -> list[tuple[int, int]]:
        found = [_stamp(f"{self._where.data}/containers")]
        found += [_stamp(f"{self._where.project_data(name)}/desired.json") for name in _projects(self._where)]
        return found


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


def _projects(where: paths.Paths) -> list[str]:
    try:
        return sorted(os.listdir(f"{where.data}/projects"))
    except FileNotFoundError:
        return []


def read(where: paths.Paths) -> routes.Routes:
    made: dict[str, list[record.Record]] = {}
    for each in record.load_all(where):
        if not each.oneoff:
            made.setdefault(each.project_id, []).append(each)
    found = []
    for project_id in _projects(where):
        containers = made.get(project_id)
        if containers:
            found.append(_project(where, project_id, containers))
    return routes.Routes(found)


def _project(where: paths.Paths, project_id: str, containers: list[record.Record]) -> routes.Project:
    first = containers[0]
    project = identity.Project(project_id, first.project, first.project_dir)
    environment = desired.load(where, project)
    definitions: Mapping[str, Any] = environment.services if environment is not None else {}
    by_service: dict[str, list[record.Record]] = {}
    for each in containers:
        by_service.setdefault(each.service, []).append(each)
    services = []
    for name, instances in sorted(by_service.items()):
        # What is wrong was said when the spec was read.
        with contextlib.suppress(ValueError):
            wish = fronting.of(definitions.get(name) or {})
            if wish.shown:
                services.append(_service(where, name, wish, instances))
    return routes.Project(
        project_id, first.project, first.project_dir, min(each.created for each in containers), tuple(services)
    )


def _service(where: paths.Paths, name: str, wish: fronting.Fronting, containers: list[record.Record]) -> routes.Service:
    newest = max(containers, key=lambda each: each.created)
    published = [
        routes.Offer(one.target, (one.name.lower(), one.app_protocol.lower()))
        for one in ports.expand(newest.ports)
        if one.protocol == "tcp"
    ]
    exposed = [routes.Offer(int(number)) for number in _exposed(newest.exposed)]
    return routes.Service(
        name=name,
        host=wish.host or routes.label(name),
        port=wish.port or routes.choose(published, exposed),
        instances=tuple(
            routes.Instance(each.id, each.name, where.project_run(each.project_id), on_host=each.network_mode == "host")
            for each in containers
        ),
        ports=tuple(dict.fromkeys(offer.port for offer in (*published, *exposed))),
    )


def _exposed(given: Iterable[str]) -> list[str]:
    return [number for number, _, protocol in (each.partition("/") for each in given) if protocol != "udp"]


def locate(where: paths.Paths, instance: routes.Instance) -> Place | None:
    """None while it doesn't run."""
    seen = state.load(where.container(instance.id))
    if seen is None or seen.status != "running" or seen.pid is None:
        return None
    return Place(seen.pid, seen.start_time, _addresses(instance))


def _addresses(instance: routes.Instance) -> tuple[str, ...]:
    """Its own addresses, and its localhost last, as the port proxy tries them."""
    with contextlib.suppress(KeyError, TypeError):
        for card in (fs.read_json(f"{instance.run}/names.json") or {})["cards"]:
            if card["id"] == instance.id:
                own = [address for place in names.Card.from_json(card).places.values() for address in place.addresses]
                return (*dict.fromkeys(own), *names.LOCALHOST)
    return names.LOCALHOST
