"""The port proxy: a small process that listens on the host's ports and leads into the containers.

    client ──▶ 0.0.0.0:8080 ─ proxy ─ socket made inside the container's network namespace ──▶ container's port 80
               helper thread,          main thread
               host's namespace        wanders between containers' namespaces

A socket belongs to the network namespace of the thread that made it, whoever uses it later. So nothing has to be
routed or translated, also not in a user namespace, and an application that listens on its own localhost is reached
too. In a user namespace there is no way back into the host's network namespace (setns(2) wants rights there), so the
main thread never stands in it: a helper that never leaves makes the listening sockets.

The container's own address is tried before its localhost: then applications that trust 127.0.0.1 (PostgreSQL's
``trust``, Redis' protected mode) see a connection from their own address and not from their localhost.

The same process is the project's name server (``nameserver``), which stands in containers in the same way.

It is told everything that it should publish, each time (``apply``), and who is called what (``names``), on
``ports.sock``: lines of JSON. It needs no supervisor and outlives it; it holds nothing that the supervisor couldn't
tell another one. ``socket`` lends one that was made inside a container, by SCM_RIGHTS: the front proxy, which may not
enter any, connects it. Started like the monitor, with ``python -I -S``; imports the standard library, dnslib,
``devenv.linux`` and ``devenv.util``.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import resource
import signal
import socket
from typing import Any

from devenv.network import inside, nameserver, relay

BACKLOG = 512
# Two sockets and two pipes; and some for listening, for containers' namespaces, for names and for commands.
DESCRIPTORS_EACH = 6
DESCRIPTORS_KEPT = 1024
MAX_CONNECTIONS = 16384
PROTOCOL = 1


class Port:
    """A host port that listens, by one socket or (for every address) by two, and the container it leads to."""

    def __init__(self, server: Server, sockets: list[socket.socket], number: int) -> None:
        self._server = server
        self.number = number
        self.container: inside.Container | None = None
        self.target = 0
        self._datagrams: list[relay.Datagrams] = []
        self._listeners: list[socket.socket] = []
        for one in sockets:
            if one.type == socket.SOCK_DGRAM:
                self._datagrams.append(relay.Datagrams(server.loop, one, backend=self._backend))
            else:
                self._listeners.append(one)
                server.loop.add(one.fileno(), relay.IN, functools.partial(self._accept, one))

    def lead(self, container: inside.Container, target: int) -> None:
        if self.container is not container or self.target != target:
            self.container, self.target = container, target
            for datagrams in self._datagrams:
                datagrams.lead(target)

    def _backend(self) -> relay.Backend:
        assert self.container is not None
        return self.container

    def _accept(self, listener: socket.socket, events: int) -> None:
        for _ in range(32):
            if not self._server.room():
                self._server.pause(self)
                return
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._server.pause(self)
                    return
                # The client gave up while it waited: accept(2).
                continue
            client.setblocking(False)
            self._server.connect(client, self._backend(), self.target)

    def pause(self, *, paused: bool) -> None:
        for one in self._listeners:
            self._server.loop.modify(one.fileno(), 0 if paused else relay.IN)

    def close(self) -> None:
        for datagrams in self._datagrams:
            datagrams.close()
        for one in self._listeners:
            self._server.loop.remove(one.fileno())
            one.close()


class Server:
    def __init__(self, control: socket.socket, folder: str) -> None:
        self.helper = inside.Helper()
        self.loop = relay.Loop()
        self.containers = inside.Containers(self.loop)
        self._names = nameserver.NameServer(self.loop, self.containers, self.helper, folder)
        self._control = control
        self._ports: dict[str, tuple[dict[str, Any], Port]] = {}  # by key: what was wished, what listens
        self._connections: set[relay.Connection] = set()
        self._paused: set[Port] = set()
        self._limit = _connection_limit()
        control.setblocking(False)
        self.loop.add(control.fileno(), relay.IN, self._command)

    def room(self) -> bool:
        return len(self._connections) < self._limit

    def pause(self, port: Port) -> None:
        """Stop accepting until a connection has ended: the kernel's queue holds who comes."""
        port.pause(paused=True)
        self._paused.add(port)

    def connect(self, client: socket.socket, backend: relay.Backend, target: int) -> None:
        connection = relay.Connection(self.loop, client, backend=backend, port=target, ended=self._ended)
        if not connection.over:
            self._connections.add(connection)

    def _ended(self, connection: relay.Connection) -> None:
        self._connections.discard(connection)
        while self._paused:
            self._paused.pop().pause(paused=False)

    # Commands

    def _command(self, events: int) -> None:
        try:
            client, _ = self._control.accept()
        except OSError:
            return
        client.setblocking(False)
        Command(self, client)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        match request.get("op"):
            case "hello":
                return {"ok": True, "protocol": PROTOCOL, "pid": os.getpid(), "connections": len(self._connections)}
            case "apply":
                return {"ok": True, "results": self.apply(request["wanted"])}
            case "names":
                return {"ok": True, "failed": self._names.tell(request["picture"])}
            case "shutdown":
                self.loop.running = False
                return {"ok": True}
            case other:
                return {"ok": False, "error": f"unknown operation {other!r}"}

    def apply(self, wanted: list[dict[str, Any]]) -> dict[str, Any]:
        """Publish exactly ``wanted``: what listens already goes on, with no connection cut."""
        keep = {item["key"] for item in wanted}
        spare = {key: self._ports.pop(key) for key in list(self._ports) if key not in keep}
        containers = self._adopt(wanted)
        results: dict[str, Any] = {}
        late: list[dict[str, Any]] = []
        for item in wanted:
            held = self._ports.get(item["key"]) or self._take_over(item, spare)
            if held is not None and not _same_place(held[0], item):
                self._close(held[1])
                self._ports.pop(item["key"], None)
                held = None
            if held is None:
                late.append(item)
                continue
            self._ports[item["key"]] = (item, held[1])
        # What goes has to be gone before its port can be had by another.
        for _, port in spare.values():
            self._close(port)
        for item in late:
            try:
                self._ports[item["key"]] = (item, self._open(item))
            except OSError as exc:
                results[item["key"]] = {"errno": exc.errno, "port": item["first"]}
        for item in wanted:
            held = self._ports.get(item["key"])
            if held is not None:
                held[1].lead(containers[item["pid"], item["start_time"]], item["target"])
                results[item["key"]] = {"port": held[1].number}
        self.containers.use("ports", containers)
        return results

    def _close(self, port: Port) -> None:
        self._paused.discard(port)
        port.close()

    def _adopt(self, wanted: list[dict[str, Any]]) -> dict[inside.Key, inside.Container]:
        found: dict[inside.Key, inside.Container] = {}
        for item in wanted:
            key = (item["pid"], item["start_time"])
            found[key] = self.containers.find(key)
            found[key].addresses = item["addresses"]
        return found

    def _take_over(
        self, item: dict[str, Any], spare: dict[str, tuple[dict[str, Any], Port]]
    ) -> tuple[dict[str, Any], Port] | None:
        """A socket of a container that goes, for the one that comes in its place: nobody is refused in between."""
        for key, (old, port) in spare.items():
            if _same_place(old, item) and item["first"] <= port.number <= item["last"]:
                return spare.pop(key)
        return None

    def _open(self, item: dict[str, Any]) -> Port:
        if item["first"] == 0:
            choices = [item.get("prefer", 0), 0] if item.get("prefer") else [0]
        else:
            choices = list(range(item["first"], item["last"] + 1))
            if item.get("prefer") in choices:
                choices.insert(0, item["prefer"])
        error = OSError(errno.EADDRINUSE, "no port to choose from")
        for number in choices:
            try:
                sockets = self.helper.call(functools.partial(_listen, item["protocol"], item["host_ip"], number))
            except OSError as exc:
                error = exc
                if exc.errno != errno.EADDRINUSE:
                    break
                continue
            return Port(self, sockets, sockets[0].getsockname()[1])
        raise error


class Command:
    """A connection on ``ports.sock``: lines of JSON, each answered by one."""

    def __init__(self, server: Server, client: socket.socket) -> None:
        self._server = server
        self._client = client
        self._buffer = b""
        server.loop.add(client.fileno(), relay.IN, self._ready)

    def _ready(self, events: int) -> None:
        try:
            data = self._client.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._server.loop.remove(self._client.fileno())
            self._client.close()
            return
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            lent: list[socket.socket] = []
            try:
                request = json.loads(line)
                if request.get("op") == "socket":
                    key = (request["pid"], request["start_time"])
                    lent.append(self._server.containers.lend(key, inside.family(request["address"])))
                    reply: dict[str, Any] = {"ok": True}
                else:
                    reply = self._server.handle(request)
            except (ValueError, KeyError, TypeError, OSError) as exc:
                reply = {"ok": False, "error": f"{type(exc).__name__}: {exc}"}
            self._answer(json.dumps(reply).encode() + b"\n", lent)

    def _answer(self, data: bytes, lent: list[socket.socket]) -> None:
        try:
            self._client.settimeout(5)
            if lent:
                sent = socket.send_fds(self._client, [data], [one.fileno() for one in lent])
                data = data[sent:]
            self._client.sendall(data)
            self._client.setblocking(False)
        except OSError:
            # Whoever asked is gone; what was asked is done.
            pass
        for one in lent:
            one.close()


def _same_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("protocol", "host_ip", "first", "last"))


def _listen(protocol: str, host_ip: str, port: int) -> list[socket.socket]:
    """Sockets that listen on a port; with no address given, on all of both families."""
    if host_ip:
        return [_listen_one(protocol, host_ip, port)]
    sockets = [_listen_one(protocol, "0.0.0.0", port)]
    try:
        sockets.append(_listen_one(protocol, "::", sockets[0].getsockname()[1]))
    except OSError as exc:
        # A machine without IPv6 publishes on IPv4.
        if exc.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            sockets[0].close()
            raise
    return sockets


def _listen_one(protocol: str, address: str, port: int) -> socket.socket:
    family = inside.family(address)
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    one = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # For connections of a proxy before this one that linger; two that listen are refused all the same.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port))
        if kind == socket.SOCK_STREAM:
            one.listen(BACKLOG)
    except BaseException:
        one.close()
        raise
    return one


def _connection_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard if hard != resource.RLIM_INFINITY else 1 << 20, 1 << 20)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(16, min(MAX_CONNECTIONS, (soft - DESCRIPTORS_KEPT) // DESCRIPTORS_EACH))


def main(arguments: list[str]) -> None:
    """``arguments``: the descriptor of the listening ``ports.sock``, the folder it is in, and for whom to see whose it
    is. The lock's descriptor is just kept open."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # Ctrl-C in the terminal that started the engine is not meant for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Server(socket.socket(fileno=int(arguments[0])), arguments[1]).loop.run()
    os._exit(0)
