"""What Compose's ``ports`` ask for, and who holds a port that is taken."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from devenv import errors
from devenv.network import types

LISTEN = 10  # TCP_LISTEN, in /proc/net/tcp
UDP_UNCONNECTED = 7


def expand(ports: Iterable[Mapping[str, Any]]) -> list[types.Publication]:
    """Publications of a service's ``ports`` in their long form.

    A range in ``published`` is a choice for one target port; no ``published`` at all is any free port. The short
    form's range for a range is several entries by the time it gets here. A range of targets is taken as well, with
    one published port each.
    """
    made: list[types.Publication] = []
    for port in ports:
        first, last = _range(port.get("published"), "published")
        targets = range(*_half_open(_range(port["target"], "target")))
        protocol = str(port.get("protocol") or "tcp").lower()
        if protocol not in ("tcp", "udp"):
            raise errors.NetworkError(f"can't publish port {port['target']}: protocol `{protocol}` is not built in")
        pair_off = len(targets) > 1 and last - first + 1 == len(targets)
        for offset, target in enumerate(targets):
            made.append(
                types.Publication(
                    target=target,
                    first=first + offset if pair_off else first,
                    last=first + offset if pair_off else last,
                    host_ip=str(port.get("host_ip") or "").strip("[]"),
                    protocol=protocol,
                    name=str(port.get("name") or ""),
                    app_protocol=str(port.get("app_protocol") or ""),
                    kernel=bool(port.get("x-kernel")),
                )
            )
    return made


def _half_open(pair: tuple[int, int]) -> tuple[int, int]:
    return pair[0], pair[1] + 1


def _range(value: Any, what: str) -> tuple[int, int]:
    text = str(value or "0")
    first, dash, last = text.partition("-")
    try:
        pair = int(first), int(last if dash else first)
    except ValueError as exc:
        raise errors.NetworkError(f"`{text}` is no {what} port", hint='write it like "8080" or "8000-8010"') from exc
    if not 0 <= pair[0] <= pair[1] <= 65535 or (what == "target" and pair[0] == 0):
        raise errors.NetworkError(f"`{text}` is no {what} port: ports go from 1 to 65535, lowest first")
    return pair


def describe(publication: types.Publication) -> str:
    """``127.0.0.1:8080/tcp``, ``8000-8010/udp``."""
    host = f"[{publication.host_ip}]" if ":" in publication.host_ip else publication.host_ip
    number = str(publication.first)
    if publication.last != publication.first:
        number += f"-{publication.last}"
    return f"{host + ':' if host else ''}{number}/{publication.protocol}"


def clashes(wanted: Sequence[tuple[str, types.Publication]]) -> list[tuple[str, str, types.Publication]]:
    """Pairs of names that want the very same single port, found before anything is started."""
    found: list[tuple[str, str, types.Publication]] = []
    seen: list[tuple[str, types.Publication]] = []
    for name, publication in wanted:
        if publication.first == 0 or publication.first != publication.last:
            continue
        for other, earlier in seen:
            same = (earlier.first, earlier.protocol) == (publication.first, publication.protocol)
            if same and _meet(earlier.host_ip, publication.host_ip):
                found.append((other, name, publication))
                break
        else:
            seen.append((name, publication))
    return found


def _meet(one: str, other: str) -> bool:
    """Whether two listening addresses exclude each other."""
    if one == other or not one or not other:
        return True
    return (":" in one) == (":" in other) and ({one, other} & {"0.0.0.0", "::"}) != set()


class Holder(NamedTuple):
    pid: int
    program: str
    command: str

    def __str__(self) -> str:
        return f"`{self.program}` (pid {self.pid})"


def holder(port: int, *, protocol: str = "tcp", host_ip: str = "") -> Holder | None:
    """Who listens on the port, as far as the caller may see: other users' processes show only to root."""
    inodes = {inode for address, inode in _listening(port, protocol) if _meet(address, host_ip) or address == host_ip}
    if not inodes:
        return None
    for pid in sorted(_pids()):
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    link = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                    if link.startswith("socket:[") and link[8:-1] in inodes:
                        return _describe_process(pid)
    return None


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _describe_process(pid: int) -> Holder:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        program = file.read().strip()
    with open(f"/proc/{pid}/cmdline", "rb") as raw:
        words = raw.read().decode(errors="replace").split("\0")
    return Holder(pid, program, " ".join(words).strip())


def _listening(port: int, protocol: str) -> Iterator[tuple[str, str]]:
    """Address and inode of every socket that listens on the port: proc_net_tcp."""
    state = UDP_UNCONNECTED if protocol == "udp" else LISTEN
    for table, family in ((protocol, socket.AF_INET), (f"{protocol}6", socket.AF_INET6)):
        try:
            with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port and int(fields[3], 16) == state:
                # Words of four bytes, each in the machine's order.
                words = bytes.fromhex(address)
                packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                text = socket.inet_ntop(family, packed)
                # A wildcard of IPv6 mostly stands for both families.
                yield ("" if text == "::" else text), fields[9]
