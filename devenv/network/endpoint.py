"""A container's place on a bridge: a veth pair, addresses and routes inside the container's network namespace.

Nothing here is ever removed one by one: deleting a veth costs 20 ms of the kernel's grace periods, while the whole
namespace, and the pair with it, goes for free when the container's last process ends.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Iterator, Sequence

from devenv.linux import netns
from devenv.network import bridge, rtnl, types
from devenv.util import identity


def veth_name(container_id: str, network: str, pid: int) -> str:
    """The host's end. With the pid, so that a restarted container doesn't wait for its last namespace to be gone."""
    return "dv" + hashlib.sha256(f"{container_id}/{network}/{pid}".encode()).hexdigest()[:10]


def order(specs: Sequence[types.EndpointSpec]) -> list[types.EndpointSpec]:
    """As interfaces are numbered: by priority, then by name."""
    return sorted(specs, key=lambda spec: (-spec.priority, spec.network))


def default_route(specs: Sequence[types.EndpointSpec], usable: set[str]) -> str:
    """The network whose gateway the container uses: the highest ``gw_priority``, then the first by name; or none."""
    able = sorted((spec for spec in specs if spec.network in usable), key=lambda s: (-s.gw_priority, s.network))
    return able[0].network if able else ""


def interfaces(specs: Sequence[types.EndpointSpec]) -> dict[str, str]:
    """Network -> the interface's name inside the container; ``specs`` is in order."""
    names: dict[str, str] = {}
    asked = {spec.interface_name for spec in specs if spec.interface_name}
    free = (name for number in range(len(specs) * 2 + 1) if (name := f"eth{number}") not in asked)
    for spec in specs:
        names[spec.network] = spec.interface_name or next(free)
    return names


def open_namespace(pid: int) -> int:
    """Raises ``FileNotFoundError`` for a process that has ended, reaped or not."""
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        # A zombie has no memory whose owner could be asked for, and so some kernels refuse all but the machine's root.
        if identity.process_start_time(pid) is None:
            raise FileNotFoundError(errno.ENOENT, "it has ended", f"/proc/{pid}/ns/net") from None
        raise


@contextlib.contextmanager
def inside(namespace: int, own: int) -> Iterator[None]:
    """The network thread stands in ``namespace`` meanwhile; ``own`` is where it belongs."""
    netns.setns(namespace)
    try:
        yield
    finally:
        netns.setns(own)


def plug(
    *, namespace: int, bridge_index: int, group: int, veth: str, endpoint: types.Endpoint, mtu: int
) -> rtnl.Request:
    return rtnl.veth(
        veth,
        master=bridge_index,
        mtu=mtu,
        group=group,
        peer=endpoint.interface,
        peer_mac=endpoint.mac,
        peer_namespace=namespace,
    )


def present() -> set[str]:
    """The interfaces in the thread's present namespace."""
    return {name for _, name in socket.if_nameindex()}


def loopback() -> rtnl.Request:
    return rtnl.up(socket.if_nametoindex("lo"))


def configure(endpoint: types.Endpoint) -> list[rtnl.Request]:
    """Addresses and routes of one interface, to be sent in the container's namespace, where the thread is already."""
    index = socket.if_nametoindex(endpoint.interface)
    settings = f"ipv6/conf/{endpoint.interface}"
    if endpoint.ipv6 or any(":" in each for each in endpoint.link_local):
        bridge.sysctl(f"{settings}/accept_ra", "0")
        bridge.sysctl(f"{settings}/accept_dad", "0")
    else:
        bridge.sysctl(f"{settings}/disable_ipv6", "1")
    requests: list[rtnl.Request] = []
    if endpoint.ipv4:
        requests.append(rtnl.address(index, endpoint.ipv4, endpoint.prefix))
    if endpoint.ipv6:
        requests.append(rtnl.address(index, endpoint.ipv6, endpoint.prefix6))
    # RFC 3927 and RFC 4291: the blocks that they are of.
    requests += [rtnl.address(index, each, 64 if ":" in each else 16) for each in endpoint.link_local]
    requests.append(rtnl.up(index))
    # Only an interface that is up can have a route.
    return requests + routes(endpoint)


def routes(endpoint: types.Endpoint) -> list[rtnl.Request]:
    gateways = [gateway for gateway in (endpoint.gateway, endpoint.gateway6) if gateway]
    return [rtnl.default_route(socket.if_nametoindex(endpoint.interface), gateway) for gateway in gateways]
