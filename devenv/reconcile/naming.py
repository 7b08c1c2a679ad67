"""What the containers of a project call each other: from records and addresses to hosts files."""

from __future__ import annotations

from collections.abc import Mapping

from devenv.network import hosts
from devenv.reconcile import record


def host(
    made: record.Record, *, path: str, addresses: Mapping[str, tuple[str, ...]], running: bool, gateway: str
) -> hosts.Host:
    """One container as `devenv.network.hosts` takes it. One-off containers are found by their own name only."""
    places = {}
    for network, found in addresses.items():
        names = [made.name]
        if not made.oneoff:
            names += [made.service, *made.networks[network].get("aliases", [])]
        places[network] = hosts.Place(addresses=found, names=tuple(dict.fromkeys(names)))
    return hosts.Host(
        id=made.id,
        # A container that shares another's network shares its names too; the host's are the host's.
        path=path if made.network_mode in {"", "none", "bridge"} else "",
        hostname=made.hostname,
        domainname=made.domainname,
        service=made.service,
        places=places,
        running=running,
        extra_hosts=made.extra_hosts,
        links=made.links,
        host_gateway=gateway,
    )
