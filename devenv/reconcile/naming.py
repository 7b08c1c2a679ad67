"""What the containers of a project call each other: from records and addresses to hosts files and cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from devenv.network import hosts, names, ports
from devenv.reconcile import record


class Wiring(NamedTuple):
    """Where a container is in its networks."""

    addresses: Mapping[str, tuple[str, ...]]  # by network
    gateway: str  # the host's address, as the container reaches it; empty when it doesn't
    outward: bool  # not in internal networks alone
    start_time: int = 0  # of the process whose network namespace it is


NOWHERE = Wiring({}, "", False)


def has_own_names(made: record.Record) -> bool:
    """A container that shares another's network shares its names too; the host's are the host's."""
    return made.network_mode in {"", "none", "bridge"}


def host(made: record.Record, wiring: Wiring) -> hosts.Host:
    return hosts.Host(
        hostname=made.hostname,
        domainname=made.domainname,
        addresses=tuple(address for found in wiring.addresses.values() for address in found),
        extra_hosts=made.extra_hosts,
        host_gateway=wiring.gateway,
    )


def card(made: record.Record, wiring: Wiring, pid: int) -> names.Card:
    """One-off containers are found by their own names only."""
    places = {}
    for network, found in wiring.addresses.items():
        called = [made.name]
        if not made.oneoff:
            called += [made.service, *made.networks[network].get("aliases", [])]
        called += [made.hostname, made.id[:12]]
        places[network] = names.Place(found, tuple(dict.fromkeys(name for name in called if name)))
    return names.Card(
        id=made.id,
        name=made.name,
        service=made.service,
        pid=pid,
        start_time=wiring.start_time,
        places=places,
        hosts={name.lower(): found for name, found in hosts.given(host(made, wiring)).items()},
        links={alias.lower(): service for alias, service in made.links.items()},
        offers=_offers(made),
        servers=tuple(made.dns.get("servers", [])),
        outward=wiring.outward,
    )


def _offers(made: record.Record) -> tuple[names.Offer, ...]:
    called: dict[tuple[int, str], list[str]] = {}
    for one in ports.expand(made.ports):
        called.setdefault((one.target, one.protocol), []).extend(
            name.lower() for name in (one.name, one.app_protocol) if name
        )
    for exposed in made.exposed:
        number, _, protocol = exposed.partition("/")
        if number.isdecimal():
            called.setdefault((int(number), protocol or "tcp"), [])
    return tuple(
        names.Offer(port, protocol, tuple(dict.fromkeys(found))) for (port, protocol), found in sorted(called.items())
    )


def known(services: Iterable[str], made: Iterable[record.Record]) -> tuple[str, ...]:
    """Names that are this project's, whether somebody answers to them or not."""
    return tuple(sorted({*services, *(each.name for each in made)}))
