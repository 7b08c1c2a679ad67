"""The name server of a project: it listens inside each container, where Docker's does, on 127.0.0.11.

    program ─▶ 127.0.0.11:53 ─ nftables, in the container ─▶ 127.0.0.11:29053 ─ a socket that was made in there and is
                                                             read out here ─▶ book of names, or the machine's servers

A socket of the container's own needs no address on a bridge, no hole in a firewall of the machine's and no way out of
an internal network, and who asks is known for certain. Port 53 itself is left to the container: a program in it may be
a name server that listens on every address. Where the kernel can't redirect, port 53 is listened on after all.

Other names are asked of the servers that the machine itself asks, in its own network namespace, as the machine would:
systemd-resolved's 127.0.0.53 is reached as well as a VPN's server, and a changed /etc/resolv.conf counts at once.
``dns:`` servers are asked from inside of the container, which may be the only one to reach them.

Part of the port proxy's process; it is told the whole picture each time. A container that ends is forgotten at once,
told or not, and what other projects call their containers in a common network is read from their ``names.json``.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterator
from typing import Any

from devenv.network import dns, dns_stream, firewall, foreign, forwarder, inside, names, nft, relay, resolv, types

PORT = 53
# Out of the range that the kernel hands out, and nobody's by custom.
INNER_PORT = 29053
BACKLOG = 64
MAX_STREAMS = 64  # for one container
MAX_MESSAGE = 65535
MAX_DATAGRAM = 4096  # however much a client says that it takes


class NameServer:
    """What the port proxy's process is told of names, and the listeners that answer from it."""

    def __init__(self, loop: relay.Loop, containers: inside.Containers, helper: inside.Helper, folder: str) -> None:
        self.loop = loop
        self.forwarder = forwarder.Forwarder(loop)
        self.foreign = foreign.Foreign(folder)
        self.servers = resolv.Current()
        self.turn = 0
        self._containers = containers
        self._helper = helper
        self._listeners: dict[str, Listener] = {}  # by container
        self.book = names.Book(names.Picture(), self._alive)

    def tell(self, data: dict[str, Any]) -> dict[str, int]:
        """What holds from now on. Returns the error number for each container in which it can't be listened."""
        picture = names.Picture.from_json(data)
        self.book = names.Book(picture, self._alive)
        failed: dict[str, int] = {}
        cards = {card.id: card for card in picture.cards}
        for card in picture.cards:
            listener = self._listeners.get(card.id)
            if listener is not None and listener.card.key == card.key and listener.open:
                listener.card = card
                continue
            if listener is not None:
                listener.close()
            try:
                self._listeners[card.id] = Listener(self, card, self._containers.find(card.key))
            except OSError as exc:
                failed[card.id] = exc.errno or 0
        for container_id in [key for key in self._listeners if key not in cards]:
            self._listeners.pop(container_id).close()
        self._containers.use("names", [card.key for card in picture.cards])
        return failed

    def _alive(self, card: names.Card) -> bool:
        return self._containers.find(card.key).alive

    def outside(self, family: int, kind: int) -> socket.socket:
        """A socket in the machine's own network namespace."""
        job = functools.partial(socket.socket, family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        made = self._helper.call(job)
        assert isinstance(made, socket.socket)
        return made


class Listener:
    """Inside of one container: by UDP, and by TCP for what is too large."""

    def __init__(self, server: NameServer, card: names.Card, container: inside.Container) -> None:
        self.server = server
        self.card = card
        self.container = container
        self.streams: set[dns_stream.Stream] = set()
        self._asking: set[tuple[Any, bytes]] = set()
        container.enter()
        port = INNER_PORT if redirect() else PORT
        self._datagrams = _bound(container, socket.SOCK_DGRAM, port)
        try:
            self._listener = _bound(container, socket.SOCK_STREAM, port)
        except OSError:
            self._datagrams.close()
            raise
        self.open = True
        container.ended = self.close
        server.loop.add(self._datagrams.fileno(), relay.IN, self._ready)
        server.loop.add(self._listener.fileno(), relay.IN, self._accept)

    def _ready(self, events: int) -> None:
        for _ in range(32):
            if not self.open:
                return
            try:
                data, client = self._datagrams.recvfrom(MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                # A client that went away: udp(7).
                continue
            # Who asks again while it is being asked for is answered once.
            if (client, data) not in self._asking:
                self._asking.add((client, data))
                self.resolve(data, stream=False, done=functools.partial(self._answer, client, data))

    def _answer(self, client: Any, data: bytes, answer: bytes) -> None:
        self._asking.discard((client, data))
        if answer and self.open:
            try:
                self._datagrams.sendto(answer, client)
            except OSError:
                # Lost on the way, as a datagram may be.
                pass

    def _accept(self, events: int) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.setblocking(False)
        if len(self.streams) >= MAX_STREAMS:
            next(iter(self.streams)).close()
        self.streams.add(
            dns_stream.Stream(
                self.server.loop, client, ask=functools.partial(self.resolve, stream=True), closed=self.streams.discard
            )
        )

    def resolve(self, data: bytes, *, stream: bool, done: forwarder.Done) -> None:
        """Exactly one call of ``done``, now or later."""
        try:
            question = dns.parse(data)
        except ValueError:
            done(dns.malformed(data))
            return
        answer = self._own_answer(question, stream=stream)
        if answer:
            done(answer)
            return
        if not self.card.outward:
            # In internal networks there are no other names.
            done(dns.empty(question, dns.NXDOMAIN))
            return
        failure = functools.partial(dns.empty, question, dns.SERVFAIL)
        self.server.forwarder.ask(
            data,
            self.card.servers or self.server.servers.now(),
            make=self.container.socket if self.card.servers else self.server.outside,
            stream=stream,
            done=lambda found: done(found or failure()),
        )

    def _own_answer(self, question: dns.Question, *, stream: bool) -> bytes:
        """Nothing for what others have to be asked."""
        card, name = self.card, question.name
        limit = MAX_MESSAGE if stream else min(max(question.size, dns.PLAIN_SIZE), MAX_DATAGRAM)
        if name == "localhost" or name.endswith(".localhost"):
            return dns.answer_addresses(question, names.LOCALHOST, limit=limit)
        if name in card.hosts:
            return dns.answer_addresses(question, card.hosts[name], limit=limit)
        if name.startswith("_") and name.count(".") >= 2:
            return self._service(question, name, limit)
        address = names.reversed_address(name)
        if address:
            called = next(filter(None, (book.named(card, address) for book in self._books())), "")
            return dns.answer_name(question, called, limit=limit) if called else b""
        found = self._found(name)
        if found:
            return dns.answer_addresses(question, names.addresses(self._turned(found)), limit=limit)
        return dns.empty(question, dns.NXDOMAIN) if self._is_ours(name) else b""

    def _is_ours(self, name: str) -> bool:
        """Nobody else is asked for it, also when nothing that is called so runs."""
        return name in self.card.links or self.server.book.knows(name)

    def _service(self, question: dns.Question, name: str, limit: int) -> bytes:
        port, protocol, host = name.split(".", 2)
        offered = names.services(self._turned(self._found(host)), port[1:], protocol.removeprefix("_"))
        if not offered:
            return dns.empty(question, dns.NXDOMAIN) if self._is_ours(host) else b""
        if question.type not in (dns.SRV, dns.ANY):
            return dns.empty(question)
        made = [dns.Service(f"{one.name}.{net}", number, one.places[net].addresses) for net, one, number in offered]
        return dns.answer_services(question, made, limit=limit)

    def _books(self) -> Iterator[names.Book]:
        yield self.server.book
        yield from self.server.foreign.books()

    def _found(self, name: str) -> names.Found:
        return [item for book in self._books() for item in book.find(self.card, name)]

    def _turned(self, found: names.Found) -> names.Found:
        """Another one first each time: most programs take the first."""
        self.server.turn += 1
        start = self.server.turn % len(found) if found else 0
        return found[start:] + found[:start]

    def close(self) -> None:
        if self.open:
            self.open = False
            for stream in list(self.streams):
                stream.close()
            for one in (self._datagrams, self._listener):
                self.server.loop.remove(one.fileno())
                one.close()


def _bound(container: inside.Container, kind: int, port: int) -> socket.socket:
    one = container.socket(socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:
            # Over connections that linger of a server before this one.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((types.NAMESERVER, port))
        if kind == socket.SOCK_STREAM:
            one.listen(BACKLOG)
    except BaseException:
        one.close()
        raise
    return one


def redirect() -> bool:
    """In the thread's present namespace: lead port 53 to ours. False where the kernel has no such rules."""
    table = firewall.names_table(types.NAMESERVER, PORT, INNER_PORT)
    try:
        nft.ensure(table)
    except OSError:
        return False
    return True
