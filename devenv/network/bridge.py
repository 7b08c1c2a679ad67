"""One Linux bridge a network: made, found again, repaired and removed.

Every function runs in the network thread, whose network namespace is the one that bridges live in: the machine's as
root, the project's own one in a user namespace. ``/proc/sys/net`` shows the namespace of the thread that opens it.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import socket
import zlib
from typing import TYPE_CHECKING

from devenv.network import ipam, rtnl, types

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute

PREFIX = "dv-"
ALIAS = "devenv:"
DEFAULT_MTU = 1500

# Addresses are ours alone to give, so nobody need be asked whether they are free: without this flag an IPv6 address
# can't be used for a second or two (RFC 4862, duplicate address detection).
IFA_F_NODAD = 0x02
RT_TABLE_LOCAL = 255


def name_for(project_id: str, network: str) -> str:
    """At most 15 bytes, as IFNAMSIZ demands, and the same at every look."""
    return PREFIX + hashlib.sha256(f"{project_id}/{network}".encode()).hexdigest()[:8]


def index_of(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def sysctl(name: str, value: str) -> bool:
    """False when the kernel has no such setting (no IPv6), or it is not ours to change (a read-only /proc/sys)."""
    try:
        descriptor = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, value.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def routed(ip: IPRoute) -> list[ipam.Net]:
    """Where this machine sends packets already, in whatever table: VPNs keep theirs beside the main one."""
    nets: list[ipam.Net] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        for route in ip.get_routes(family=family):
            target = route.get_attr("RTA_DST")
            # A default route covers everything; multicast and single addresses of the machine itself are no pool's.
            if target is None or route["dst_len"] == 0 or route.get_attr("RTA_TABLE") == RT_TABLE_LOCAL:
                continue
            with contextlib.suppress(ValueError):
                nets.append(ipaddress.ip_network(f"{target}/{route['dst_len']}", strict=False))
    return nets


def ways_out(ip: IPRoute) -> set[str]:
    """The interfaces that default routes lead to."""
    names: set[str] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for route in ip.get_default_routes(family=family):
            index = route.get_attr("RTA_OIF")
            with contextlib.suppress(OSError):
                names.update([socket.if_indextoname(index)] if index else [])
    return names


def forward(name: str) -> None:
    """Let packets that come in by this interface be forwarded; no other interface is changed."""
    sysctl(f"ipv4/conf/{name}/forwarding", "1")
    # An interface that forwards ignores router advertisements, unless told otherwise: 2. The machine may live by them.
    try:
        with open(f"/proc/sys/net/ipv6/conf/{name}/accept_ra", encoding="ascii") as file:
            listens = file.read().strip() == "1"
    except OSError:
        return
    if listens:
        sysctl(f"ipv6/conf/{name}/accept_ra", "2")
    sysctl(f"ipv6/conf/{name}/forwarding", "1")


def up(ip: IPRoute, network: types.Network) -> int:
    """The bridge's index; it is made, addressed and its containers are plugged in again if it isn't there."""
    index = index_of(network.bridge)
    if index is not None:
        return index
    ip.link(
        "add",
        ifname=network.bridge,
        kind="bridge",
        # Left alone, a bridge takes the lowest address of its ports, and changes it as containers come and go.
        address=ipam.mac_of(network.gateways[0]),
        mtu=network.mtu,
    )
    index = socket.if_nametoindex(network.bridge)
    has_ipv6 = any(":" in gateway for gateway in network.gateways)
    sysctl(f"ipv6/conf/{network.bridge}/disable_ipv6", "0" if has_ipv6 else "1")
    # A container must not be able to give the machine a route by router advertisements (CVE-2020-13401).
    sysctl(f"ipv6/conf/{network.bridge}/accept_ra", "0")
    for subnet in network.subnets:
        kind = socket.AF_INET6 if ":" in subnet.gateway else socket.AF_INET
        ip.addr(
            "add",
            index=index,
            family=kind,
            address=subnet.gateway,
            prefixlen=ipaddress.ip_network(subnet.subnet).prefixlen,
            **({"IFA_FLAGS": IFA_F_NODAD} if kind == socket.AF_INET6 else {}),
        )
    ip.link("set", index=index, state="up", IFLA_IFALIAS=f"{ALIAS}{network.project_id}:{network.name}")
    for allocation in network.allocations.values():
        veth = index_of(allocation.interface) if allocation.interface else None
        if veth is not None:
            ip.link("set", index=veth, master=index)
    return index


def group(name: str) -> int:
    """The interface group of a bridge's veth pairs (IFLA_GROUP), by which all of them can be removed at once."""
    return 0x40000000 | zlib.crc32(name.encode()) & 0x3FFFFFFF


def down(ip: IPRoute, name: str) -> None:
    """Remove the bridge, and pairs whose other end's namespace lingers: a connection that nobody closed keeps it."""
    index = index_of(name)
    if index is not None:
        with contextlib.suppress(OSError):
            rtnl.send([rtnl.delete_group(group(name))])
        ip.link("del", index=index)


def owned(ip: IPRoute, project_id: str) -> dict[str, str]:
    """The bridges that say they are the project's: their names, and those of their networks."""
    mine = f"{ALIAS}{project_id}:"
    return {
        link.get_attr("IFLA_IFNAME"): alias.removeprefix(mine)
        for link in ip.get_links()
        if (alias := link.get_attr("IFLA_IFALIAS") or "").startswith(mine)
    }
