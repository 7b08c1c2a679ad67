"""rtnetlink(7), as far as moving an interface into another network namespace needs it. Standard library only, for the
runtime; all else about networks is ``devenv.network``'s."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import NamedTuple

RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_GETADDR = 22
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
IFLA_IFNAME = 3
IFLA_NET_NS_FD = 28
IFA_FLAGS = 8
IFF_UP = 1
IFA_F_PERMANENT = 0x80

_header = struct.Struct("IHHII")
_ifinfo = struct.Struct("BxHiII")
_ifaddr = struct.Struct("BBBBI")


class Address(NamedTuple):
    family: int
    prefix: int
    scope: int
    owner: int  # index of the interface
    attributes: bytes  # as they came, without the label and the times
    permanent: bool


def set_link(index: int, *, name: str = "", namespace: int = -1, up: bool = False) -> None:
    body = _ifinfo.pack(socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)
    if name:
        body += _attribute(IFLA_IFNAME, name.encode() + b"\0")
    if namespace >= 0:
        body += _attribute(IFLA_NET_NS_FD, struct.pack("I", namespace))
    _ask(RTM_SETLINK, NLM_F_ACK, body)


def addresses(index: int) -> list[Address]:
    found = []
    for message in _ask(RTM_GETADDR, NLM_F_DUMP, _ifaddr.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        family, prefix, flags, scope, owner = _ifaddr.unpack_from(message)
        if owner != index:
            continue
        kept = b""
        for kind, value in _attributes(message[_ifaddr.size :]):
            if kind in {1, 2, 4}:  # IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST
                kept += _attribute(kind, value)
            elif kind == IFA_FLAGS:
                flags = struct.unpack("I", value)[0]
        found.append(Address(family, prefix, scope, owner, kept, bool(flags & IFA_F_PERMANENT)))
    return found


def add_address(address: Address, index: int) -> None:
    body = _ifaddr.pack(address.family, address.prefix, 0, address.scope, index) + address.attributes
    _ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        found.append((kind, data[4:length]))
        data = data[(length + 3) & ~3 :]
    return found


def _ask(kind: int, flags: int, body: bytes) -> list[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as wire:
        wire.bind((0, 0))
        wire.send(_header.pack(_header.size + len(body), kind, flags | NLM_F_REQUEST, 1, 0) + body)
        found: list[bytes] = []
        while True:
            data = wire.recv(1 << 16)
            while data:
                length, answer, _, _, _ = _header.unpack_from(data)
                content, data = data[_header.size : length], data[(length + 3) & ~3 :]
                if answer == _NLMSG_DONE:
                    return found
                if answer == _NLMSG_ERROR:
                    code = -struct.unpack_from("i", content)[0]
                    if code:
                        raise OSError(code, os.strerror(code) if code in errno.errorcode else "netlink error")
                    return found
                found.append(content)
