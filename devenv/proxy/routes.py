"""Which host name leads to which port of which service. Pure.

    SERVICE.PROJECT.localhost       and whatever stands before it, for applications that have names of their own
    PROJECT.localhost               an index of the project's services
    localhost                       an index of the projects

A project's id (`shop-1a2b3c4d`) is a name for it as well. Of two projects that are called the same, the plain name is
that of the one whose containers are older.

The port of a service: what its `proxy:` says; else one of the TCP ports that it publishes, or if there is none, of
those that it exposes: the first that its `app_protocol` or its name calls HTTP, then the first of PREFERRED, then the
first of all, leaving out those of databases and the like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

DOMAIN = "localhost"
PREFERRED = (80, 8080, 8000, 3000, 5173, 5000, 4200, 8888)
# Who listens there by default speaks no HTTP, or HTTP that only its own clients have a use for; with TLS of its own.
OTHERS = frozenset(
    {21, 22, 25, 53, 110, 143, 389, 443, 465, 587, 636, 993, 995, 1025, 1433, 1521, 1883, 2049, 2181, 2375, 2376}
    | {2379, 2380, 3306, 4222, 4317, 5432, 5671, 5672, 5900, 6379, 6432, 7687, 8443, 9042, 9092, 9229, 9300, 11211}
    | {26257, 27017, 27018, 33060, 50051}
)
_HTTP = frozenset({"http", "web", "ws"})


class Offer(NamedTuple):
    """A TCP port of a service, and what it is called."""

    port: int
    names: tuple[str, ...] = ()


class Instance(NamedTuple):
    """A container of a service, as far as it can be reached."""

    id: str
    name: str
    run: str  # the folder of its project's sockets
    on_host: bool = False  # on the machine's own network


class Service(NamedTuple):
    name: str
    host: str  # the name before that of the project
    port: int  # 0: none that could be meant
    instances: tuple[Instance, ...] = ()
    ports: tuple[int, ...] = ()  # those that were to choose from


class Project(NamedTuple):
    id: str
    name: str
    directory: str
    since: float  # when its oldest container was made
    services: tuple[Service, ...]


class Found(NamedTuple):
    project: Project | None = None
    service: Service | None = None


class Routes:
    def __init__(self, projects: Iterable[Project]) -> None:
        self.projects = sorted(projects, key=lambda each: (each.since, each.id))
        self._named: dict[str, Project] = {}
        for each in self.projects:
            self._named.setdefault(label(each.name), each)
        for each in self.projects:
            self._named.setdefault(label(each.id), each)
        self.instances = {
            instance.id: instance
            for each in self.projects
            for service in each.services
            for instance in service.instances
        }

    def find(self, host: str) -> Found:
        """``host`` is a name, in lower case and with no port."""
        before = host.removesuffix(f".{DOMAIN}")
        *words, last = before.split(".")
        project = self._named.get(last) if before != host else None
        if project is None:
            return Found()
        by_host = {service.host: service for service in reversed(project.services)}
        for first in range(len(words)):
            service = by_host.get(".".join(words[first:]))
            if service is not None:
                return Found(project, service)
        return Found(project)

    def host_of(self, project: Project, service: Service | None = None) -> str:
        """The shortest name that leads there."""
        own = label(project.name)
        domain = f"{own if self._named.get(own) is project else label(project.id)}.{DOMAIN}"
        return domain if service is None else f"{service.host}.{domain}"


def label(name: str) -> str:
    """A project's or a service's name as a part of a host name: an underscore or a dot is none."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")


def is_ours(host: str) -> bool:
    return host == DOMAIN or host.endswith(f".{DOMAIN}")


def choose(published: Sequence[Offer], exposed: Sequence[Offer]) -> int:
    """The port that speaks HTTP, most likely; 0 when none does."""
    for offers in (published, exposed):
        for offer in offers:
            if _HTTP & set(offer.names):
                return offer.port
        ports = [offer.port for offer in offers if offer.port not in OTHERS]
        for port in (*PREFERRED, *ports):
            if port in ports:
                return port
    return 0
