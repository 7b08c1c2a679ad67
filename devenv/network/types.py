"""What a network, an endpoint and a published port are: data only, no I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

# Where programs in containers ask for names: where they find it with Docker, too.
NAMESERVER = "127.0.0.11"


class Pool(NamedTuple):
    """One entry of Compose's ``ipam.config``, as written."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    aux_addresses: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """What a project asks of a network. ``name`` is the full name: ``shop_default``."""

    name: str
    driver: str = "bridge"
    driver_opts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    internal: bool = False
    external: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam_driver: str = "default"
    pools: tuple[Pool, ...] = ()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Subnet(NamedTuple):
    """A subnet that is in use, and the address its bridge has there."""

    subnet: str  # 172.18.0.0/16
    gateway: str  # 172.18.0.1
    ip_range: str = ""  # where addresses are handed out; empty for the whole subnet
    reserved: tuple[str, ...] = ()  # aux_addresses


class Allocation(NamedTuple):
    """What a container has on a network as long as it exists, running or not."""

    ipv4: str
    ipv6: str
    mac: str
    interface: str = ""  # the host's end of its veth pair, once wired


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network that exists, as its record on disk has it."""

    name: str
    project_id: str  # the owner; another project than ours for an external network
    driver: str
    internal: bool
    subnets: tuple[Subnet, ...]
    bridge: str
    mtu: int
    wishes: str  # digest of the NetworkSpec it was made from
    created: float
    labels: Mapping[str, str]
    allocations: Mapping[str, Allocation]  # by container id
    parent: str = ""  # macvlan and ipvlan: an interface of the machine's, in place of a bridge
    mode: str = ""

    @property
    def gateways(self) -> tuple[str, ...]:
        return tuple(subnet.gateway for subnet in self.subnets)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """What a container asks of one network."""

    network: str  # NetworkSpec.name
    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    interface_name: str = ""
    gw_priority: int = 0
    priority: int = 0
    link_local: tuple[str, ...] = ()  # further addresses, which are valid on this network alone


class Endpoint(NamedTuple):
    """A container's place in one network."""

    network: str
    interface: str  # inside the container: eth0
    ipv4: str
    prefix: int
    ipv6: str
    prefix6: int
    mac: str
    gateway: str  # the default gateway the container uses through this network; empty when through another or none
    gateway6: str
    link_local: tuple[str, ...] = ()


class Publication(NamedTuple):
    """One container port on one host port: what ``ports.expand`` makes of an entry of Compose's ``ports``."""

    target: int
    first: int  # the host ports to choose from; 0 for any
    last: int
    host_ip: str  # empty for every address, IPv4 and IPv6
    protocol: str  # tcp, udp
    name: str = ""
    app_protocol: str = ""
    kernel: bool = False  # carried by the kernel for who comes from outside, who is seen then


class Backend(NamedTuple):
    """Where a published port leads: a process whose network namespace is the container's, and its addresses there."""

    container_id: str
    pid: int
    start_time: int
    addresses: tuple[str, ...]


class Forward(NamedTuple):
    """A published port that the kernel leads to a container."""

    protocol: str
    host_ip: str  # empty for every address of the machine
    port: int
    address: str  # the container's, in the network that its default route leads through
    target: int
    bridge: str


class Published(NamedTuple):
    """A publication that listens."""

    container_id: str
    publication: Publication
    port: int
