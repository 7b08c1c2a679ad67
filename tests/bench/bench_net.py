"""Networks, names and published ports beside the direct way, pasta and slirp4netns, in one run.

    ./dev bench [--rounds 5] [--json FILE]

Wiring: a container's interface, addresses, routes and names, one container after the other. Names: questions to the
name server from inside a container, beside the same packets answered by an echo there (the kernel's floor), and what
asking through it adds to asking the machine's resolver. Ports: one stream, a ping of one byte and new connections to a
server in a container, by its own address (direct), by the published port, and by a port of pasta and of slirp4netns.

As root, in network namespaces of its own. The ratios of one run are what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import dnslib

from devenv.network import manager, names, portproxy_client, types
from devenv.util import identity, paths
from tests.support import isolation, netlab, upstream

SECONDS = 0.5
PYTHON = "/usr/bin/python3"  # which other users may execute, too
CHUNK = bytes(1 << 20)
# Runs in a container: sends what it can to who says "s", else answers each byte with the same.
SERVER = """
import socket, sys, threading
def one(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = bytes(1 << 20)
    try:
        while (what := c.recv(1)):
            if what == b"s":
                while True:
                    c.sendall(data)
            c.sendall(what)
    except OSError:
        pass
    c.close()
l = socket.create_server(("0.0.0.0", 80), backlog=512)
print("ready", flush=True)
while True:
    threading.Thread(target=one, args=(l.accept()[0],), daemon=True).start()
"""


def stream(address: tuple[str, int]) -> float:
    """GB/s."""
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"s")
        buffer, count, end = bytearray(1 << 20), 0, time.perf_counter() + SECONDS
        start = time.perf_counter()
        while time.perf_counter() < end:
            count += client.recv_into(buffer)
        return count / (time.perf_counter() - start) / 1e9


def ping(address: tuple[str, int]) -> float:
    """Milliseconds."""
    with socket.create_connection(address, timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return repeated(lambda: (client.sendall(b"x"), client.recv(1)))


def connect(address: tuple[str, int]) -> float:
    def one() -> None:
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(b"x")
            client.recv(1)

    return repeated(one)


def repeated(job: Callable[[], object]) -> float:
    """The median of its milliseconds."""
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


class Lab:
    def __init__(self, folder: str) -> None:
        self.where = paths.Paths(f"{folder}/data", f"{folder}/run")
        paths.prepare(self.where)
        self.shop = manager.NetworkManager(paths=self.where, project_id="shop-00000000", project_name="shop")
        self.proxy = portproxy_client.PortProxy(self.where.project_run("shop-00000000"))
        self.shop.ensure(types.NetworkSpec(name="shop_default"))
        self.boxes: list[netlab.Container] = []
        self.cards: list[names.Card] = []

    def add(self) -> tuple[netlab.Container, types.Endpoint]:
        box = netlab.Container(len(self.boxes) + 1)
        os.makedirs(self.where.container(box.id))
        self.boxes.append(box)
        (found,) = self.shop.attach(box.id, box.pid, [types.EndpointSpec(network="shop_default")])
        name = f"s{len(self.boxes)}"
        place = {"shop_default": names.Place((found.ipv4,), (name,))}
        start = identity.process_start_time(box.pid) or 0
        self.cards.append(names.Card(id=box.id, name=name, service=name, pid=box.pid, start_time=start, places=place))
        return box, found

    def tell(self) -> None:
        self.proxy.tell_names(names.Picture(tuple(self.cards), ()))

    def close(self) -> None:
        self.proxy.shutdown()
        for box in self.boxes:
            self.shop.release(box.id)
            box.end()
        self.shop.remove("shop_default")
        self.shop.shutdown()
        self.shop.close()


def wiring(lab: Lab, count: int = 20) -> dict[str, float]:
    lab.tell()
    attach: list[float] = []
    tell: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        lab.add()
        middle = time.perf_counter()
        lab.tell()
        attach.append(middle - start)
        tell.append(time.perf_counter() - middle)
    return {
        # With the start of the process that stands for the container.
        "network, ms": statistics.median(attach) * 1000,
        "names, ms": statistics.median(tell) * 1000,
    }


def lookups(box: netlab.Container, name: str) -> Callable[[], None]:
    """Asks once, from inside; the socket is kept."""
    client = box.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.settimeout(5)
    box.run(lambda: client.connect(("127.0.0.11", 53)))
    question = dnslib.DNSRecord.question(name).pack()

    def ask() -> None:
        client.send(question)
        client.recv(4096)

    return ask


def echo(box: netlab.Container) -> Callable[[], None]:
    server = box.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 0))
    client = box.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.connect(server.getsockname())

    def answer() -> None:
        while True:
            data, who = server.recvfrom(4096)
            server.sendto(data, who)

    threading.Thread(target=answer, daemon=True).start()

    def ask() -> None:
        client.send(bytes(40))
        client.recv(4096)

    return ask


def direct() -> Callable[[], None]:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.0.0.53", 53))
    question = dnslib.DNSRecord.question("www.example").pack()

    def ask() -> None:
        client.send(question)
        client.recv(4096)

    return ask


def naming(lab: Lab) -> dict[str, float]:
    box, _ = lab.add()
    lab.tell()
    found = {
        "echo in there, ms": repeated(echo(box)),
        "a service's name, ms": repeated(lookups(box, "s1")),
        "machine's resolver, ms": repeated(direct()),
        "the same through ours, ms": repeated(lookups(box, "www.example")),
    }
    asks = [lookups(box, "s1") for _ in range(4)]
    counts = [0] * len(asks)
    end = time.perf_counter() + 2 * SECONDS

    def flood(at: int) -> None:
        while time.perf_counter() < end:
            asks[at]()
            counts[at] += 1

    threads = [threading.Thread(target=flood, args=(at,)) for at in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found["answers a second"] = sum(counts) / (2 * SECONDS)
    return found


def serve(prefix: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*prefix, PYTHON, "-S", "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", prefix
    return process


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


def three(address: tuple[str, int]) -> dict[str, float]:
    return {"stream, GB/s": stream(address), "ping, ms": ping(address), "connection, ms": connect(address)}


def ports(lab: Lab) -> dict[str, dict[str, float]]:
    box, place = lab.add()
    lab.tell()
    found: dict[str, dict[str, float]] = {}
    with ended(serve(["nsenter", f"--net=/proc/{box.pid}/ns/net"])):
        publication = types.Publication(80, 0, 0, "127.0.0.1", "tcp")
        applied = lab.proxy.apply([portproxy_client.Wanted(publication, box.backend(place.ipv4))])
        found["direct"] = three((place.ipv4, 80))
        found["published"] = three(("127.0.0.1", applied.published[0].port))
    for name, run in (("pasta", pasta), ("slirp4netns", slirp4netns)):
        if shutil.which(name):
            with run():
                found[name] = three(("127.0.0.1", 18080))
    return found


@contextlib.contextmanager
def pasta() -> Iterator[None]:
    """In a user namespace, as for an ordinary user: from the machine's own it leaves root."""
    arguments = ["--config-net", "--quiet", "--foreground", "--netns-only", "--no-map-gw", "-u", "none"]
    arguments += ["-t", "127.0.0.1/18080:80", "-T", "none", "-U", "none", "--netns", "/proc/self/fd/0"]
    server = serve(["unshare", "-Ur", "-n"])
    with ended(server), open(f"/proc/{server.pid}/ns/net", "rb") as namespace:
        enter = ["nsenter", "-U", "--preserve-credentials", "-t", str(server.pid)]
        process = subprocess.Popen([*enter, "pasta", *arguments], stdin=namespace, text=True)
        with ended(process):
            await_port()
            yield


@contextlib.contextmanager
def slirp4netns() -> Iterator[None]:
    inner = netlab.Container(9002)
    with tempfile.TemporaryDirectory() as folder, ended(serve(["nsenter", f"--net=/proc/{inner.pid}/ns/net"])):
        argv = ["slirp4netns", "--configure", "--mtu=65520", "-a", f"{folder}/api", str(inner.pid), "tap0"]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        with ended(process):
            forward = {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": 18080, "guest_port": 80}
            end = time.monotonic() + 10
            while True:
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as api:
                    api.connect(f"{folder}/api")
                    api.sendall(json.dumps({"execute": "add_hostfwd", "arguments": forward}).encode())
                    api.recv(1000)
                    break
                if time.monotonic() > end:
                    raise RuntimeError("slirp4netns does not answer")
                time.sleep(0.01)
            await_port()
            yield
    inner.end()


def await_port() -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 18080), timeout=1) as client:
            client.sendall(b"x")
            if client.recv(1):
                return
        time.sleep(0.02)
    raise RuntimeError("the port does not answer")


def median(samples: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="")
    given, _ = parser.parse_known_args()
    if os.geteuid() != 0:
        sys.exit("needs root")
    session = isolation.enter()
    folder = pathlib.Path(session.folder)
    found: dict[str, dict[str, float]] = {}
    resolver = upstream.Upstream()
    lab = Lab(str(folder))
    try:
        with upstream.resolv_conf("nameserver 127.0.0.53\n", folder):
            found["wiring"] = wiring(lab)
            found["names"] = median([naming(lab) for _ in range(given.rounds)])
            rounds = [ports(lab) for _ in range(given.rounds)]
            for way in rounds[0]:
                found[way] = median([each[way] for each in rounds])
    finally:
        lab.close()
        resolver.close()
        isolation.leave(session)
    for part, values in found.items():
        base = found["direct"] if part in ("published", "pasta", "slirp4netns") else {}
        for key, value in values.items():
            ratio = f"  {value / base[key]:.2f} of direct" if key in base else ""
            print(f"{part:12} {key:28} {value:10.3f}{ratio}")
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(found, indent=2) + "\n")
    # Threads that answer echoes would keep the process.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
