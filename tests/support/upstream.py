"""A name server for others to ask, in the test's own process, and an /etc/resolv.conf that says so."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import dnslib


class Upstream:
    """Answers every name below ``example`` with one address; ``asked`` is what it was asked."""

    def __init__(self, address: str = "127.0.0.53", *, answer: str = "192.0.2.1", code: int = 0) -> None:
        self._answer = answer
        self._code = code
        self.asked: list[tuple[str, str]] = []  # tcp or udp, name
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind((address, 53))
        self._tcp = socket.create_server((address, 53), family=family)
        self._threads = [threading.Thread(target=self._datagrams), threading.Thread(target=self._streams)]
        for thread in self._threads:
            thread.start()

    def _reply(self, data: bytes, way: str) -> bytes:
        query = dnslib.DNSRecord.parse(data)
        name = str(query.q.qname)
        self.asked.append((way, name))
        reply = query.reply()
        reply.header.rcode = self._code
        if name.startswith("large.") and way == "udp":
            reply.header.tc = 1
        elif name.endswith("example.") and not self._code:
            count = 60 if name.startswith("large.") else 1
            for number in range(count):
                address = self._answer if count == 1 else f"192.0.2.{number}"
                reply.add_answer(dnslib.RR(name, ttl=60, rdata=dnslib.A(address)))
        else:
            reply.header.rcode = self._code or dnslib.RCODE.NXDOMAIN
        return reply.pack()

    def _datagrams(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = self._udp.recvfrom(4096)
                if not data:
                    return
                self._udp.sendto(self._reply(data, "udp"), client)

    def _streams(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._tcp.accept()
                with client, client.makefile("rb") as file:
                    while header := file.read(2):
                        answer = self._reply(file.read(struct.unpack(">H", header)[0]), "tcp")
                        client.sendall(struct.pack(">H", len(answer)) + answer)

    def close(self) -> None:
        for one in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()


@contextlib.contextmanager
def resolv_conf(text: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """This machine's, for as long as it lasts, in the session's own mount namespace."""
    path = folder / "resolv.conf"
    path.write_text(text)
    path.chmod(0o644)
    subprocess.run(["mount", "--bind", str(path), "/etc/resolv.conf"], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)
