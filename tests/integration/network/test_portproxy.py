"""The port proxy as a process: bytes through it in every way, and what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from devenv import errors
from devenv.network import portproxy_client, types
from devenv.proxy import dial, routes, table
from devenv.util import paths
from tests.support import netlab

Make = Callable[[], netlab.Container]


@pytest.fixture
def folder(where: paths.Paths) -> str:
    return where.project_run("shop-00000000")


@pytest.fixture
def proxy(folder: str) -> Iterator[portproxy_client.PortProxy]:
    one = portproxy_client.PortProxy(folder)
    yield one
    one.shutdown()


@pytest.fixture
def box(container: Make) -> netlab.Container:
    one = container()
    one.shell("ip link set lo up")
    return one


def tcp(target: int, first: int, *, last: int = 0, host_ip: str = "127.0.0.1") -> types.Publication:
    return types.Publication(target, first, last or first, host_ip, "tcp")


def pid_of(one: portproxy_client.PortProxy) -> int:
    reply = one._call({"op": "hello"})
    return int(reply["pid"])


@contextlib.contextmanager
def server(box: netlab.Container, port: int, serve: Callable[[socket.socket], None], *, host: str = "127.0.0.1"):
    """``serve`` gets each connection, in a thread, from a listener inside the container."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = box.run(lambda: socket.create_server((host, port), family=family))
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with connection:
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=one, args=(connection,)))
                threads[-1].start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
        for each in threads:
            each.join()


def echo(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            connection.sendall(data)


def ask(port: int, data: bytes = b"hello", *, host: str = "127.0.0.1") -> bytes:
    with socket.create_connection((host, port), timeout=10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_reaches_an_application_that_listens_on_its_own_localhost(
    proxy: portproxy_client.PortProxy, box: netlab.Container
) -> None:
    with server(box, 80, echo):
        applied = proxy.apply([portproxy_client.Wanted(tcp(80, 0), box.backend("172.18.0.2"))])
        assert ask(applied.published[0].port) == b"hello"


def test_listens_on_both_families_and_reaches_ipv6(proxy: portproxy_client.PortProxy, box: netlab.Container) -> None:
    with server(box, 80, echo, host="::1"):
        applied = proxy.apply([portproxy_client.Wanted(tcp(80, 0, host_ip=""), box.backend())])
        port = applied.published[0].port
        assert ask(port) == b"hello"
        assert ask(port, host="::1") == b"hello"


def test_passes_each_end_of_stream_on_its_own(proxy: portproxy_client.PortProxy, box: netlab.Container) -> None:
    def late(connection: socket.socket) -> None:
        received = b""
        while data := connection.recv(65536):
            received += data
        # Only after the client has said its last word.
        connection.sendall(received[::-1])

    with server(box, 80, late):
        applied = proxy.apply([portproxy_client.Wanted(tcp(80, 0), box.backend())])
        assert ask(applied.published[0].port, b"abc") == b"cba"


def test_carries_a_hundred_megabytes_unharmed(proxy: portproxy_client.PortProxy, box: netlab.Container) -> None:
    block = os.urandom(1 << 20)
    expected = hashlib.sha256(block * 100).hexdigest()
    received = hashlib.sha256()

    def take(connection: socket.socket) -> None:
        while data := connection.recv(1 << 18):
            received.update(data)
        connection.sendall(received.hexdigest().encode())

    with server(box, 80, take):
        applied = proxy.apply([portproxy_client.Wanted(tcp(80, 0), box.backend())])
        with socket.create_connection(("127.0.0.1", applied.published[0].port), timeout=60) as client:
            for _ in range(100):
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100).decode() == expected


def test_a_reader_that_stops_does_not_stop_the_others(proxy: portproxy_client.PortProxy, box: netlab.Container) -> None:
    with server(box, 80, echo):
        applied = proxy.apply([portproxy_client.Wanted(tcp(80, 0), box.backend())])
        port = applied.published[0].port
        with socket.create_connection(("127.0.0.1", port)) as stuck:
            stuck.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    stuck.send(bytes(1 << 16))
            assert ask(port) == b"hello"


def test_nothing_listening_inside_is_a_reset_and_not_an_empty_answer(
    proxy: portproxy_client.PortProxy, box: netlab.Container
) -> None:
    applied = proxy.apply([portproxy_client.Wanted(tcp(80, 0), box.backend())])
    with pytest.raises(ConnectionError):
        ask(applied.published[0].port)


def test_answers_datagrams_over_both_families(proxy: portproxy_client.PortProxy, box: netlab.Container) -> None:
    inside = box.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    inside.bind(("127.0.0.1", 53))
    udp = types.Publication(53, 0, 0, "", "udp")
    applied = proxy.apply([portproxy_client.Wanted(udp, box.backend("172.18.0.9"))])
    port = applied.published[0].port
    with inside:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.5")):
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(10)
                client.connect((host, port))  # connected: an answer from any other address would not arrive
                for word in (b"one", b"two"):
                    client.send(word)
                    inside.settimeout(10)
                    data, peer = inside.recvfrom(100)
                    inside.sendto(data.upper(), peer)
                    assert client.recv(100) == word.upper()


def test_a_datagram_refused_by_one_address_goes_to_the_next(
    proxy: portproxy_client.PortProxy, box: netlab.Container
) -> None:
    box.shell("ip addr add 172.18.0.9/32 dev lo")
    inside = box.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp = types.Publication(53, 0, 0, "127.0.0.1", "udp")
    with inside, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        inside.bind(("127.0.0.1", 53))
        inside.settimeout(10)
        applied = proxy.apply([portproxy_client.Wanted(udp, box.backend("172.18.0.9"))])
        client.sendto(b"ask", ("127.0.0.1", applied.published[0].port))
        assert inside.recv(100) == b"ask"


def test_a_taken_port_names_its_holder(proxy: portproxy_client.PortProxy, box: netlab.Container) -> None:
    program = "import socket, time; s = socket.create_server(('127.0.0.1', 8088)); print(flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            applied = proxy.apply([portproxy_client.Wanted(tcp(80, 8088), box.backend())])
            with pytest.raises(errors.PortTaken, match=f"127.0.0.1:8088/tcp` is taken by .*pid {other.pid}"):
                applied.check()
        finally:
            other.kill()


def test_another_project_is_named_as_the_holder(
    proxy: portproxy_client.PortProxy, box: netlab.Container, where: paths.Paths
) -> None:
    other = portproxy_client.PortProxy(where.project_run("blog-11111111"))
    try:
        other.apply([portproxy_client.Wanted(tcp(80, 8089, host_ip=""), box.backend())]).check()
        with pytest.raises(errors.PortTaken, match="devenv project `blog-11111111`"):
            proxy.apply([portproxy_client.Wanted(tcp(80, 8089), box.backend())]).check()
    finally:
        other.shutdown()


def test_a_low_port_without_the_right_to_it_comes_with_the_remedy() -> None:
    error = portproxy_client.refusal(tcp(80, 80), 13)
    assert error.hint is not None
    assert "net.ipv4.ip_unprivileged_port_start=80" in error.hint


def test_an_address_of_no_interface_is_said_so(proxy: portproxy_client.PortProxy, box: netlab.Container) -> None:
    with pytest.raises(errors.NetworkError, match=r"no interface of this machine has the address `203\.0\.113\.9`"):
        proxy.apply([portproxy_client.Wanted(tcp(80, 8080, host_ip="203.0.113.9"), box.backend())]).check()


def test_a_range_gives_each_replica_its_first_free_port(proxy: portproxy_client.PortProxy, container: Make) -> None:
    boxes = [container() for _ in range(3)]
    wanted = [portproxy_client.Wanted(tcp(80, 8100, last=8101), box.backend()) for box in boxes]
    applied = proxy.apply(wanted)
    assert [one.port for one in applied.published] == [8100, 8101]
    with pytest.raises(errors.PortTaken, match="every port of"):
        applied.check()


def test_applying_again_changes_nothing_and_cuts_nothing(
    proxy: portproxy_client.PortProxy, box: netlab.Container
) -> None:
    with server(box, 80, echo):
        wanted = [portproxy_client.Wanted(tcp(80, 0), box.backend())]
        first = proxy.apply(wanted)
        before = netlab.descriptors(pid_of(proxy))
        with socket.create_connection(("127.0.0.1", first.published[0].port), timeout=10) as client:
            client.sendall(b"a")
            assert client.recv(1) == b"a"
            assert proxy.apply(wanted) == first
            client.sendall(b"b")
            assert client.recv(1) == b"b"
        assert proxy.apply(wanted) == first
        assert netlab.descriptors(pid_of(proxy)) <= before + 4  # pipes kept in the pool


def test_a_recreated_container_takes_its_port_over(proxy: portproxy_client.PortProxy, container: Make) -> None:
    old, new = container(), container()
    new.shell("ip link set lo up")
    proxy.apply([portproxy_client.Wanted(tcp(80, 8090), old.backend())]).check()
    with server(new, 80, echo):
        proxy.apply([portproxy_client.Wanted(tcp(80, 8090), new.backend())]).check()
        assert ask(8090) == b"hello"


def test_it_outlives_whoever_started_it(folder: str, box: netlab.Container) -> None:
    backend = box.backend()
    program = (
        "import os, signal; from devenv.network import portproxy_client as c, types as t\n"
        f"w = c.Wanted(t.Publication(80, 8091, 8091, '127.0.0.1', 'tcp'), t.Backend{tuple(backend)!r})\n"
        f"c.PortProxy({folder!r}).apply([w]).check()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=os.getcwd(), check=False)
    assert ended.returncode == -signal.SIGKILL
    next_one = portproxy_client.PortProxy(folder)
    try:
        with server(box, 80, echo):
            assert ask(8091) == b"hello"
            assert next_one.running()
            # The next one finds it and may go on where the last one was killed.
            next_one.apply([portproxy_client.Wanted(tcp(80, 8091), backend)]).check()
            assert ask(8091) == b"hello"
    finally:
        next_one.shutdown()
    assert not next_one.running()


def test_a_killed_proxy_is_replaced_with_the_same_ports(
    proxy: portproxy_client.PortProxy, box: netlab.Container
) -> None:
    wanted = [portproxy_client.Wanted(tcp(80, 0), box.backend())]
    with server(box, 80, echo):
        first = proxy.apply(wanted)
        os.kill(pid_of(proxy), signal.SIGKILL)
        assert proxy.apply(wanted) == first
        assert ask(first.published[0].port) == b"hello"


def test_hundreds_of_connections_leave_no_descriptor_behind(
    proxy: portproxy_client.PortProxy, box: netlab.Container
) -> None:
    with server(box, 80, echo):
        applied = proxy.apply([portproxy_client.Wanted(tcp(80, 0), box.backend())])
        port = applied.published[0].port
        ask(port)
        before = netlab.descriptors(pid_of(proxy))
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(300)]
        for client in clients:
            client.sendall(b"x")
        for client in clients:
            assert client.recv(1) == b"x"
            client.close()
        for _ in range(200):
            ask(port)
        assert pid_of(proxy)
        # The pool keeps up to 64 pipes for the next ones.
        assert netlab.descriptors(pid_of(proxy)) <= before + 2 * 64


def test_a_dead_container_refuses_and_its_namespace_is_let_go(
    proxy: portproxy_client.PortProxy, container: Make
) -> None:
    box = container()
    box.shell("ip link set lo up")
    with server(box, 80, echo):
        applied = proxy.apply([portproxy_client.Wanted(tcp(80, 0), box.backend())])
        assert ask(applied.published[0].port) == b"hello"
    pid = pid_of(proxy)
    held = os.stat(f"/proc/{box.pid}/ns/net").st_ino
    box.end()
    with pytest.raises(ConnectionError):
        ask(applied.published[0].port)
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    assert f"net:[{held}]" not in links
    assert os.stat(f"/proc/{pid}/ns/net").st_ino != held


def test_a_proxy_that_does_not_know_what_is_asked_is_replaced(
    proxy: portproxy_client.PortProxy, box: netlab.Container
) -> None:
    """It was started by a devenv before an upgrade."""
    wanted = [portproxy_client.Wanted(tcp(80, 0), box.backend("172.18.0.2"))]
    with server(box, 80, echo):
        port = proxy.apply(wanted).published[0].port
        before, guard = pid_of(proxy), proxy.guard()
        with pytest.raises(errors.NetworkError, match="unknown operation 'dance'"):
            proxy._call({"op": "dance"})
        with guard:
            assert guard.recv(1) == b""
        assert pid_of(proxy) != before
        assert proxy.apply(wanted).published[0].port == port
        assert ask(port) == b"hello"


def lent(folder: str, backend: types.Backend, port: int) -> socket.socket:
    """As the front proxy has it."""
    instance = routes.Instance("ab12", "shop-web-1", folder)
    place = table.Place(backend.pid, backend.start_time, ("127.0.0.9", "127.0.0.1", "::1"))
    made = asyncio.run(dial.connect(instance, place, port))
    made.settimeout(10)
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_lends_sockets_that_were_made_inside(
    proxy: portproxy_client.PortProxy, box: netlab.Container, folder: str, host: str
) -> None:
    proxy.start()
    with server(box, 80, echo, host=host):
        before = netlab.descriptors(pid_of(proxy))
        for _ in range(20):
            with lent(folder, box.backend(), 80) as client:
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"
        # Neither the sockets nor the container, which nobody publishes, are kept.
        assert netlab.descriptors(pid_of(proxy)) == before
        with pytest.raises(dial.NobodyListens):
            lent(folder, box.backend(), 81)


def test_lends_no_sockets_of_the_dead(proxy: portproxy_client.PortProxy, box: netlab.Container, folder: str) -> None:
    proxy.start()
    with pytest.raises(dial.NotRunning, match="ProcessLookupError"):
        lent(folder, box.backend()._replace(start_time=1), 80)
    proxy.shutdown()
    with pytest.raises(dial.NotRunning, match="does not answer"):
        lent(folder, box.backend(), 80)
