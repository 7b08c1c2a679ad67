"""netdevice(7): what an ioctl(2) can do with a network interface. All else is netlink's."""

from __future__ import annotations

import fcntl
import socket
import struct

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

_ifreq = struct.Struct("16sh22x")


def up(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        reply = fcntl.ioctl(control, SIOCGIFFLAGS, _ifreq.pack(name.encode(), 0))
        flags = _ifreq.unpack(reply)[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, _ifreq.pack(name.encode(), flags | IFF_UP))
