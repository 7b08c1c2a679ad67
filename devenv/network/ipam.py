"""Which subnet a network gets and which address a container: pure decisions over what is already taken.

Subnets are cut from Docker's own pools without its first one, which docker0 has wherever Docker runs, and as /20:
4,094 addresses are enough for a network, and 240
networks fit where 31 would. An address is the lowest free one, and a container keeps it as long as it exists.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator

from devenv import errors
from devenv.network import types

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

POOLS = (
    *(ipaddress.IPv4Network(f"172.{second}.0.0/16") for second in range(18, 32)),
    ipaddress.IPv4Network("192.168.0.0/16"),
)
SIZE = 20


def candidates() -> Iterator[ipaddress.IPv4Network]:
    for pool in POOLS:
        yield from pool.subnets(new_prefix=SIZE)


def candidates6(seed: str) -> Iterator[ipaddress.IPv6Network]:
    """Unique local /64s under a global id of the project's own (RFC 4193), so that they clash with nobody's."""
    unique = hashlib.sha256(seed.encode()).digest()[:5]
    for index in range(256):
        yield ipaddress.IPv6Network((b"\xfd" + unique + index.to_bytes(2, "big") + bytes(8), 64))


def overlaps(one: Net, taken: Iterable[Net]) -> bool:
    return any(one.version == other.version and one.overlaps(other) for other in taken)


def subnets(
    spec: types.NetworkSpec, *, host: Iterable[Net], others: Iterable[Net], seed: str
) -> tuple[types.Subnet, ...]:
    """The subnets of a new network, IPv4 first.

    ``host`` is where the machine routes to already: an own choice avoids it, a choice of the spec's may overlap it, as
    its author knows. ``others`` are the subnets of other networks of devenv, which no subnet may overlap.
    """
    others = list(others)
    taken = [*host, *others]
    made: list[types.Subnet] = []
    versions: set[int] = set()
    for pool in spec.pools:
        if not pool.subnet:
            if pool.gateway or pool.ip_range:
                raise _refused(spec, "has a gateway or an ip_range but no subnet to hold it", "add `subnet`")
            continue
        subnet = _network(spec, "subnet", pool.subnet)
        if subnet.version == 6 and not spec.enable_ipv6:
            raise _refused(spec, f"has the IPv6 subnet `{subnet}` but IPv6 is off", "add `enable_ipv6: true`")
        if overlaps(subnet, others):
            raise _refused(spec, f"wants `{subnet}`, which another network has", "choose another subnet")
        made.append(_asked(spec, pool, subnet))
        others.append(subnet)
        versions.add(subnet.version)
    if spec.enable_ipv4 and 4 not in versions:
        made.append(_chosen(spec, candidates(), taken))
    if spec.enable_ipv6 and 6 not in versions:
        made.append(_chosen(spec, candidates6(seed), taken))
    if not made:
        raise _refused(spec, "has neither IPv4 nor IPv6", "enable one of them")
    return tuple(sorted(made, key=lambda item: ":" in item.subnet))


def _chosen(spec: types.NetworkSpec, among: Iterable[Net], taken: Iterable[Net]) -> types.Subnet:
    for subnet in among:
        if not overlaps(subnet, taken):
            return types.Subnet(str(subnet), str(subnet[1]))
    raise _refused(
        spec,
        "finds no free subnet: the machine's routes and other networks cover every pool",
        "give it one of your own with `ipam: {config: [{subnet: 10.123.0.0/24}]}`, or remove unused networks",
    )


def _asked(spec: types.NetworkSpec, pool: types.Pool, subnet: Net) -> types.Subnet:
    if subnet.num_addresses < 4:
        raise _refused(spec, f"has the subnet `{subnet}`, too small for a gateway and a container", "widen it")
    ip_range = _network(spec, "ip_range", pool.ip_range) if pool.ip_range else None
    if ip_range is not None and not _inside(ip_range, subnet):
        raise _refused(spec, f"has the ip_range `{ip_range}` outside of its subnet `{subnet}`", "narrow the range")
    reserved = tuple(str(_address(spec, "aux_addresses", value, subnet)) for _, value in pool.aux_addresses)
    if pool.gateway:
        gateway = _address(spec, "gateway", pool.gateway, subnet)
    else:
        free = (host for host in _hosts(ip_range or subnet, subnet) if str(host) not in reserved)
        gateway = next(free)
    return types.Subnet(str(subnet), str(gateway), str(ip_range or ""), reserved)


def _inside(inner: Net, outer: Net) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _network(spec: types.NetworkSpec, what: str, text: str) -> Net:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise _refused(spec, f"has no valid {what}: `{text}`", "write it like 172.28.0.0/16") from exc


def _address(spec: types.NetworkSpec, what: str, text: str, subnet: Net) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as exc:
        raise _refused(spec, f"has no valid address in `{what}`: `{text}`", None) from exc
    if address not in subnet:
        raise _refused(spec, f"has `{what}` {address} outside of its subnet `{subnet}`", None)
    return address


def _refused(spec: types.NetworkSpec, what: str, hint: str | None) -> errors.NetworkError:
    return errors.NetworkError(f"network `{spec.name}` {what}", hint=hint)


def _hosts(among: Net, subnet: Net) -> Iterator[Address]:
    """Every address in ``among`` that a machine may have, lowest first; ``hosts()`` would build lists for IPv6."""
    first, last = subnet.network_address, subnet.broadcast_address
    for number in range(int(among.network_address), int(among.broadcast_address) + 1):
        address = type(first)(number)
        if address not in (first, last):
            yield address


def allocate(network: types.Network, container_id: str, wish: types.EndpointSpec) -> types.Allocation:
    """The container's addresses on ``network``: those it has already, unless it wishes for others."""
    held = network.allocations.get(container_id)
    others = [value for key, value in network.allocations.items() if key != container_id]
    ipv4 = _pick(network, 4, wish.ipv4, held.ipv4 if held else "", {other.ipv4 for other in others})
    ipv6 = _pick(network, 6, wish.ipv6, held.ipv6 if held else "", {other.ipv6 for other in others})
    mac = wish.mac.lower() or (held.mac if held else "") or mac_of(ipv4 or ipv6)
    return types.Allocation(ipv4, ipv6, mac, held.interface if held else "")


def _pick(network: types.Network, version: int, wish: str, held: str, taken: set[str]) -> str:
    mine = [item for item in network.subnets if (":" in item.subnet) == (version == 6)]
    if not mine:
        if wish:
            raise errors.NetworkError(
                f"network `{network.name}` has no IPv{version} subnet for the address `{wish}`",
                hint=f"give it one under `ipam`{' and `enable_ipv6: true`' if version == 6 else ''}",
            )
        return ""
    gateways = {item.gateway for item in mine}
    if wish:
        return _static(network, mine, wish, taken | gateways)
    if held:
        return held
    taken = taken | gateways | {address for item in mine for address in item.reserved}
    for item in mine:
        subnet = ipaddress.ip_network(item.subnet)
        for address in _hosts(ipaddress.ip_network(item.ip_range or item.subnet), subnet):
            if str(address) not in taken:
                return str(address)
    raise errors.NetworkError(
        f"network `{network.name}` has no free IPv{version} address left",
        hint="give it a larger `subnet` or `ip_range`, or remove stopped containers",
    )


def _static(network: types.Network, mine: list[types.Subnet], wish: str, taken: set[str]) -> str:
    try:
        address = ipaddress.ip_address(wish)
    except ValueError as exc:
        raise errors.NetworkError(f"`{wish}` is no address for network `{network.name}`") from exc
    home = next((item for item in mine if address in ipaddress.ip_network(item.subnet)), None)
    if home is None:
        raise errors.NetworkError(
            f"address `{wish}` lies outside of network `{network.name}` ({', '.join(item.subnet for item in mine)})"
        )
    if str(address) in taken:
        raise errors.NetworkError(
            f"address `{wish}` in network `{network.name}` is in use already",
            hint="replicas can't share a static address; remove `ipv4_address`/`ipv6_address` or the other container",
        )
    return str(address)


def mac_of(address: str) -> str:
    """From the address, so that whoever gets it next is found at once where a neighbour table still knows it."""
    value = ipaddress.ip_address(address)
    # Locally administered and unicast: the second-lowest bit of the first byte set, the lowest clear.
    tail = value.packed if value.version == 4 else hashlib.sha256(value.packed).digest()[:4]
    return "02:42:" + ":".join(f"{byte:02x}" for byte in tail)


def prefix(network: types.Network, address: str) -> int:
    value = ipaddress.ip_address(address)
    for item in network.subnets:
        subnet = ipaddress.ip_network(item.subnet)
        if value in subnet:
            return subnet.prefixlen
    raise errors.NetworkError(f"address `{address}` lies outside of network `{network.name}`")


def gateway(network: types.Network, address: str) -> str:
    """The gateway for a container with ``address``; empty in an internal network, which leads nowhere."""
    if network.internal or not address:
        return ""
    value = ipaddress.ip_address(address)
    return next((item.gateway for item in network.subnets if value in ipaddress.ip_network(item.subnet)), "")


def parse(subnet: str) -> Net:
    return ipaddress.ip_network(subnet)
