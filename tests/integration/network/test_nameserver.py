"""The name server as a process: what programs in containers are told, over real sockets."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import dnslib
import pytest

from devenv.network import manager, names, portproxy_client, types
from devenv.util import identity, paths
from tests.support import netlab, upstream
from tests.support.polling import eventually

Make = Callable[[], netlab.Container]


@pytest.fixture
def proxy(where: paths.Paths) -> Iterator[portproxy_client.PortProxy]:
    one = portproxy_client.PortProxy(where.project_run("shop-00000000"))
    yield one
    one.shutdown()


@pytest.fixture
def machine(tmp_path: Path, namespace: None) -> Iterator[upstream.Upstream]:
    """Asks 127.0.0.53, as with systemd-resolved."""
    server = upstream.Upstream()
    with upstream.resolv_conf("nameserver 127.0.0.53\n", tmp_path):
        yield server
    server.close()


def card(box: netlab.Container, service: str, *addresses: str, network: str = "net", **more: object) -> names.Card:
    return names.Card(
        id=box.id,
        name=f"shop-{service}-1",
        service=service,
        pid=box.pid,
        start_time=identity.process_start_time(box.pid) or 0,
        places={network: names.Place(addresses, (f"shop-{service}-1", service))},
        **more,  # type: ignore[arg-type]
    )


def boxes(container: Make, count: int) -> list[netlab.Container]:
    made = [container() for _ in range(count)]
    for one in made:
        one.shell("ip link set lo up")
    return made


def told(proxy: portproxy_client.PortProxy, *cards: names.Card) -> None:
    assert proxy.tell_names(names.Picture(cards, tuple(one.service for one in cards))) == {}


def query(box: netlab.Container, name: str, kind: str = "A", *, tcp: bool = False) -> dnslib.DNSRecord:
    """What a program inside gets to know, written against DNS alone."""
    return dnslib.DNSRecord.parse(raw(box, dnslib.DNSRecord.question(name, kind).pack(), tcp=tcp))


def raw(box: netlab.Container, data: bytes, *, tcp: bool = False) -> bytes:
    def ask() -> bytes:
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as client:
            client.settimeout(10)
            client.connect(("127.0.0.11", 53))
            if not tcp:
                client.send(data)
                return client.recv(65535)
            client.sendall(struct.pack(">H", len(data)) + data)
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as file:
                return file.read()[2:]

    return box.run(ask)


def throw(data: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(data, ("127.0.0.11", 53))


def addresses(reply: dnslib.DNSRecord) -> list[str]:
    return [str(record.rdata) for record in reply.rr]


def test_names_addresses_and_services(proxy: portproxy_client.PortProxy, container: Make) -> None:
    web, db = boxes(container, 2)
    offer = names.Offer(5432, "tcp", ("postgresql",))
    told(
        proxy,
        card(web, "web", "172.18.0.2", hosts={"far.lan": ("192.0.2.9",)}),
        card(db, "db", "172.18.0.3", "fd00::3", offers=(offer,)),
    )
    assert addresses(query(web, "db")) == ["172.18.0.3"]
    assert addresses(query(web, "DB", "AAAA")) == ["fd00::3"]
    assert addresses(query(web, "db", tcp=True)) == ["172.18.0.3"]
    assert addresses(query(db, "shop-web-1.net")) == ["172.18.0.2"]
    only_ipv4 = query(db, "web", "AAAA")
    assert (only_ipv4.header.rcode, addresses(only_ipv4)) == (dnslib.RCODE.NOERROR, [])
    assert addresses(query(web, "3.0.18.172.in-addr.arpa", "PTR")) == ["shop-db-1.net."]
    assert addresses(query(web, "3." + "0." * 29 + "d.f.ip6.arpa", "PTR")) == ["shop-db-1.net."]
    assert addresses(query(web, "_postgresql._tcp.db", "SRV")) == ["0 1 5432 shop-db-1.net."]
    assert query(web, "_http._tcp.db", "SRV").header.rcode == dnslib.RCODE.NXDOMAIN
    assert addresses(query(web, "far.lan")) == ["192.0.2.9"]
    assert addresses(query(db, "api.localhost")) == ["127.0.0.1"]


def test_replicas_take_turns_and_too_many_go_over_tcp(proxy: portproxy_client.PortProxy, container: Make) -> None:
    web, *others = boxes(container, 3)
    many = [f"172.18.1.{number}" for number in range(60)]
    told(proxy, card(web, "web", "172.18.0.2"), card(others[0], "api", *many[:30]), card(others[1], "api", *many[30:]))
    assert {addresses(query(web, "api"))[0] for _ in range(4)} == {many[0], many[30]}
    cut = query(web, "api")
    assert cut.header.tc
    assert 0 < len(cut.rr) < 60
    assert sorted(addresses(query(web, "api", tcp=True))) == sorted(many)


def test_who_ends_is_forgotten_though_nobody_tells(proxy: portproxy_client.PortProxy, container: Make) -> None:
    web, api = boxes(container, 2)
    told(proxy, card(web, "web", "172.18.0.2"), card(api, "api", "172.18.0.3"))
    assert addresses(query(web, "api")) == ["172.18.0.3"]
    api.end()
    eventually(lambda: query(web, "api").header.rcode == dnslib.RCODE.NXDOMAIN)


def test_nobody_hears_of_other_networks(
    proxy: portproxy_client.PortProxy, container: Make, machine: upstream.Upstream
) -> None:
    web, db = boxes(container, 2)
    told(proxy, card(web, "web", "172.18.0.2"), card(db, "db", "172.19.0.2", network="back"))
    assert query(web, "db").header.rcode == dnslib.RCODE.NXDOMAIN
    # Nor is a service's name asked for outside.
    assert machine.asked == []
    assert query(web, "2.0.19.172.in-addr.arpa", "PTR").header.rcode == dnslib.RCODE.NXDOMAIN


def test_other_names_are_asked_for_as_the_machine_does(
    proxy: portproxy_client.PortProxy, container: Make, machine: upstream.Upstream, tmp_path: Path
) -> None:
    (web,) = boxes(container, 1)
    told(proxy, card(web, "web", "172.18.0.2"))
    assert addresses(query(web, "www.example")) == ["192.0.2.1"]
    assert query(web, "no-such-name").header.rcode == dnslib.RCODE.NXDOMAIN
    large = query(web, "large.example")
    assert large.header.tc
    assert len(query(web, "large.example", tcp=True).rr) == 60
    assert ("tcp", "large.example.") in machine.asked
    # A VPN comes up.
    other = upstream.Upstream("127.0.0.54", answer="192.0.2.2")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.54\n")
    assert addresses(query(web, "www.example")) == ["192.0.2.2"]
    other.close()


def test_the_next_server_is_asked_when_one_fails(
    proxy: portproxy_client.PortProxy, container: Make, machine: upstream.Upstream, tmp_path: Path
) -> None:
    (web,) = boxes(container, 1)
    told(proxy, card(web, "web", "172.18.0.2"))
    broken = upstream.Upstream("127.0.0.55", code=dnslib.RCODE.SERVFAIL)
    # One refuses, one fails, one is silent.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.57", 53))
        for lines in (("127.0.0.56", "127.0.0.55", "127.0.0.53"), ("127.0.0.57", "127.0.0.53")):
            (tmp_path / "resolv.conf").write_text("".join(f"nameserver {line}\n" for line in lines))
            assert addresses(query(web, "www.example")) == ["192.0.2.1"]
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.55\n")
    assert query(web, "www.example").header.rcode == dnslib.RCODE.SERVFAIL
    broken.close()


def test_servers_of_the_spec_are_asked_from_inside(
    proxy: portproxy_client.PortProxy, container: Make, machine: upstream.Upstream
) -> None:
    (web,) = boxes(container, 1)
    told(proxy, card(web, "web", "172.18.0.2", servers=("127.0.0.53",)))
    # In there, nobody listens.
    assert query(web, "www.example").header.rcode == dnslib.RCODE.SERVFAIL
    inner = web.run(lambda: upstream.Upstream(answer="192.0.2.3"))
    assert addresses(query(web, "www.example")) == ["192.0.2.3"]
    assert machine.asked == []
    inner.close()


def test_an_internal_network_leaks_no_names(
    proxy: portproxy_client.PortProxy, container: Make, machine: upstream.Upstream
) -> None:
    (web,) = boxes(container, 1)
    told(proxy, card(web, "web", "172.18.0.2", outward=False))
    assert query(web, "secret.example").header.rcode == dnslib.RCODE.NXDOMAIN
    assert machine.asked == []


def test_port_53_is_left_to_the_container(proxy: portproxy_client.PortProxy, container: Make) -> None:
    web, db = boxes(container, 2)
    told(proxy, card(web, "web", "172.18.0.2"), card(db, "db", "172.18.0.3"))
    own = web.run(lambda: upstream.Upstream("0.0.0.0"))
    assert addresses(query(web, "db")) == ["172.18.0.3"]
    assert own.asked == []
    own.close()


def test_rubbish_harms_nobody(proxy: portproxy_client.PortProxy, container: Make) -> None:
    (web,) = boxes(container, 1)
    told(proxy, card(web, "web", "172.18.0.2"))
    good = dnslib.DNSRecord.question("web", "A").pack()
    for data in (b"", b"x", good[:11], good[:-3] + b"\xc0\x0c", b"\xff" * 600):
        web.run(lambda data=data: throw(data))
    broken = raw(web, good[:12] + b"\x3f")
    assert broken[:2] == good[:2]
    assert dnslib.DNSRecord.parse(broken).header.rcode == dnslib.RCODE.FORMERR
    assert addresses(query(web, "web")) == ["172.18.0.2"]


def test_names_of_another_project_in_a_common_network(
    proxy: portproxy_client.PortProxy, where: paths.Paths, container: Make
) -> None:
    web, api, hidden = boxes(container, 3)
    told(proxy, card(web, "web", "172.18.0.2", network="meeting"))
    other = portproxy_client.PortProxy(where.project_run("other-00000000"))
    try:
        told(other, card(api, "api", "172.18.0.3", network="meeting"), card(hidden, "db", "172.19.0.2"))
        assert eventually(lambda: addresses(query(web, "api"))) == ["172.18.0.3"]
        assert eventually(lambda: addresses(query(api, "web"))) == ["172.18.0.2"]
        assert addresses(query(hidden, "web")) == []
        api.end()
        eventually(lambda: not addresses(query(web, "api")))
    finally:
        other.shutdown()


def test_after_a_kill_the_next_process_takes_over(proxy: portproxy_client.PortProxy, container: Make) -> None:
    web, db = boxes(container, 2)
    cards = (card(web, "web", "172.18.0.2"), card(db, "db", "172.18.0.3"))
    told(proxy, *cards)
    pid = proxy._call({"op": "hello"})["pid"]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    told(proxy, *cards)
    assert addresses(query(web, "db")) == ["172.18.0.3"]


def test_an_ended_container_takes_its_namespace_along(proxy: portproxy_client.PortProxy, container: Make) -> None:
    (web,) = boxes(container, 1)
    told(proxy, card(web, "web", "172.18.0.2"))
    pid = proxy._call({"op": "hello"})["pid"]
    before = netlab.descriptors(pid)
    more = boxes(container, 1)[0]
    told(proxy, card(web, "web", "172.18.0.2"), card(more, "api", "172.18.0.3"))
    assert netlab.descriptors(pid) == before + 4
    more.end()
    eventually(lambda: netlab.descriptors(pid) == before)


def test_a_container_that_has_ended_already_is_refused(proxy: portproxy_client.PortProxy, container: Make) -> None:
    web, gone = boxes(container, 2)
    late = card(gone, "late", "172.18.0.3")
    gone.end()
    failed = proxy.tell_names(names.Picture((card(web, "web", "172.18.0.2"), late), ()))
    assert list(failed) == [late.id]
    assert addresses(query(web, "web")) == ["172.18.0.2"]
    assert proxy.tell_names(names.Picture((dataclasses.replace(late, pid=1),), ())) != {}


def test_many_lives_leave_nothing_behind(
    proxy: portproxy_client.PortProxy,
    project: Callable[[str], manager.NetworkManager],
    where: paths.Paths,
    soak: Callable[[int, int], int],
) -> None:
    """Wired, named and removed, some at once: `--soak` has 200 at once and 1,000 in all."""
    atonce = soak(10, 200)
    shop = project("shop")
    network = shop.ensure(types.NetworkSpec(name="net"))
    first = netlab.Container(0)
    os.makedirs(where.container(first.id))
    asker, *_ = wired(shop, [first])
    told(proxy, asker)
    pid = proxy._call({"op": "hello"})["pid"]
    before = netlab.descriptors(pid)
    for start in range(1, soak(2, 5) * atonce, atonce):
        lives = [netlab.Container(start + number) for number in range(atonce)]
        for one in lives:
            os.makedirs(where.container(one.id), exist_ok=True)
        cards = wired(shop, lives)
        told(proxy, asker, *cards)
        assert {addresses(query(first, each.service))[0] for each in cards} == {
            each.places["net"].addresses[0] for each in cards
        }
        for one in lives:
            one.end()
            os.rmdir(where.container(one.id))
            shop.release(one.id)
        told(proxy, asker)
    eventually(lambda: netlab.descriptors(pid) == before)
    veths = lambda: [name for _, name in socket.if_nameindex() if name.startswith("dv") and name != network.bridge]  # noqa: E731
    eventually(lambda: len(veths()) == 1, 30)
    assert list(shop.list()[0].allocations) == [first.id]
    first.end()


def wired(shop: manager.NetworkManager, lives: list[netlab.Container]) -> list[names.Card]:
    cards = []
    for one in lives:
        (found,) = shop.attach(one.id, one.pid, [types.EndpointSpec(network="net")])
        cards.append(card(one, f"s{int(one.id, 16)}", found.ipv4))
    return cards
