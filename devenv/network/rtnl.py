"""A container's network in two messages: what every start waits for.

pyroute2 makes bridges and reads tables. But for the six requests that wire a new namespace it needs a new socket, an
event loop's turn each and 4 ms in all; here the pair is one message, what goes on inside is packed into another, and
both are answered in half a millisecond. Numbers are those of linux/rtnetlink.h, if_link.h, veth.h and if_addr.h.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Sequence

NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE = 0x1, 0x4, 0x400, 0x200, 0x100
NLMSG_ERROR = 2
RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 17, 20, 24
IFF_UP = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
# Nobody else gives addresses here: without it IPv6 asks around for a second first (RFC 4862).
IFA_F_NODAD = 0x02
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_GROUP, IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 27, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_LINK, IFLA_SUBLINK_MODE = 5, 1  # IFLA_MACVLAN_MODE and IFLA_IPVLAN_MODE
RTA_OIF, RTA_GATEWAY = 4, 5
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 4, 0, 1

Request = tuple[int, int, bytes]  # type, flags, payload


def _attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + bytes(-len(payload) % 4)


def _link(index: int, flags: int, *, change: int | None = None) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags if change is None else change)


def up(index: int) -> Request:
    return RTM_NEWLINK, 0, _link(index, IFF_UP)


def down(index: int) -> Request:
    return RTM_NEWLINK, 0, _link(index, 0, change=IFF_UP)


def delete(index: int) -> Request:
    return RTM_DELLINK, 0, _link(index, 0)


def delete_group(group: int) -> Request:
    """Every interface of the group at once: one grace period of the kernel's for all, where each would take 20 ms."""
    return RTM_DELLINK, 0, _link(0, 0) + _attr(IFLA_GROUP, struct.pack("=I", group))


def veth(name: str, *, master: int, mtu: int, group: int, peer: str, peer_mac: str, peer_namespace: int) -> Request:
    """A pair, with one end up and in the bridge ``master``, and the other born in another namespace: veth(4)."""
    size = _attr(IFLA_MTU, struct.pack("=I", mtu))
    other = _link(0, 0) + _attr(IFLA_IFNAME, peer.encode() + b"\0") + size
    other += _attr(IFLA_ADDRESS, bytes.fromhex(peer_mac.replace(":", "")))
    other += _attr(IFLA_NET_NS_FD, struct.pack("=i", peer_namespace))
    kind = _attr(IFLA_INFO_KIND, b"veth\0") + _attr(IFLA_INFO_DATA, _attr(VETH_INFO_PEER, other))
    attrs = _attr(IFLA_IFNAME, name.encode() + b"\0") + size + _attr(IFLA_MASTER, struct.pack("=i", master))
    attrs += _attr(IFLA_GROUP, struct.pack("=I", group))
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _link(0, IFF_UP) + attrs + _attr(IFLA_LINKINFO, kind)


def sublink(kind: str, *, parent: int, mode: bytes, name: str, mac: str, mtu: int, namespace: int) -> Request:
    """A macvlan or ipvlan of an interface that is here, born in another namespace."""
    info = _attr(IFLA_INFO_KIND, kind.encode() + b"\0") + _attr(IFLA_INFO_DATA, _attr(IFLA_SUBLINK_MODE, mode))
    attrs = _attr(IFLA_IFNAME, name.encode() + b"\0") + _attr(IFLA_LINK, struct.pack("=i", parent))
    attrs += _attr(IFLA_MTU, struct.pack("=I", mtu)) + _attr(IFLA_NET_NS_FD, struct.pack("=i", namespace))
    if mac:
        attrs += _attr(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    return RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _link(0, 0) + attrs + _attr(IFLA_LINKINFO, info)


def address(index: int, text: str, prefix: int) -> Request:
    value = ipaddress.ip_address(text)
    packed = value.packed
    attrs = _attr(IFA_LOCAL, packed) + _attr(IFA_ADDRESS, packed)
    family, flags = (socket.AF_INET, 0) if value.version == 4 else (socket.AF_INET6, IFA_F_NODAD)
    if value.version == 4 and prefix < 31:
        attrs += _attr(IFA_BROADCAST, ipaddress.ip_network(f"{text}/{prefix}", strict=False).broadcast_address.packed)
    header = struct.pack("=BBBBi", family, prefix, flags, RT_SCOPE_UNIVERSE, index)
    return RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, header + attrs


def default_route(index: int, gateway: str) -> Request:
    value = ipaddress.ip_address(gateway)
    family = socket.AF_INET if value.version == 4 else socket.AF_INET6
    header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0)
    attrs = _attr(RTA_GATEWAY, value.packed) + _attr(RTA_OIF, struct.pack("=i", index))
    # In place of one through another network, when it comes to be of higher priority.
    return RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, header + attrs


def send(requests: Sequence[Request]) -> None:
    """Carry out all of them, in order, in the calling thread's namespace; raises what the first one that fails says."""
    data = b"".join(
        struct.pack("=IHHII", 16 + len(payload), kind, flags | NLM_F_REQUEST | NLM_F_ACK, number, 0) + payload
        for number, (kind, flags, payload) in enumerate(requests, 1)
    )
    if not requests:
        return
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(10)
        netlink.bind((0, 0))
        netlink.send(data)
        missing, failed = len(requests), 0
        while missing:
            answer = netlink.recv(1 << 16)
            while len(answer) >= 20:
                length, kind = struct.unpack_from("=IH", answer)
                if kind == NLMSG_ERROR:
                    failed = failed or -struct.unpack_from("=i", answer, 16)[0]
                    missing -= 1
                answer = answer[(length + 3) & ~3 :]
    if failed:
        raise OSError(failed, os.strerror(failed), "rtnetlink")
