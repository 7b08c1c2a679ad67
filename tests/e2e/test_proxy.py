"""``devenv proxy``: real services by name over HTTPS, as curl and a browser's WebSocket see them."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator

import aiohttp
import pytest

from devenv.proxy import trust
from tests.support import machine, projects, runner
from tests.support.polling import eventually

pytestmark = [pytest.mark.root, machine.needs_binary("curl")]

# A little of everything: what was asked, uploads, events that wait for a word, a socket that echoes.
APP = """
    import base64, gzip, hashlib, http.server, json, os, select, sys, threading

    go, hung = threading.Event(), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        last = False

        def parse_request(self):
            if self.last:  # the connection ends just as a request arrives
                self.close_connection = True
                return False
            return super().parse_request()

        def do_GET(self):
            if self.path == "/events":
                return self.events()
            if self.path == "/hang":
                return self.hang()
            if self.path == "/hung":
                return self.say(str(hung.wait(30)))
            if self.path == "/half":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"not all of it")
            if self.path in ("/half", "/silent"):
                self.close_connection = True
                return
            if self.path == "/gzip":
                return self.zipped()
            self.last = self.path == "/last"
            if self.path == "/go":
                go.set()
            if self.headers.get("Upgrade") == "websocket":
                return self.echo()
            seen = {"name": sys.argv[1], "path": self.path, "connection": id(self), "host": os.uname().nodename}
            self.say(json.dumps(seen | {"headers": {name.lower(): value for name, value in self.headers.items()}}))

        def do_POST(self):
            size = 0
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                while part := int(self.rfile.readline(), 16):
                    size += len(self.rfile.read(part))
                    self.rfile.readline()
                self.rfile.readline()
            else:
                left = int(self.headers["Content-Length"])
                while left:
                    read = len(self.rfile.read(min(left, 1 << 16)))
                    size, left = size + read, left - read
            self.say(str(size))

        do_PUT = do_POST

        def say(self, text):
            self.send_response_only(200, "Fine")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Set-Cookie", "a=1")
            self.send_header("Set-Cookie", "b=2")
            self.end_headers()
            self.wfile.write(text.encode())

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", "12345")
            self.end_headers()

        def zipped(self):
            self.protocol_version = "HTTP/1.0"
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(gzip.compress(b"small " * 1000))
            self.close_connection = True

        def hang(self):
            if select.select([self.connection], [], [], 30)[0]:
                hung.set()
            self.close_connection = True

        def events(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for word in ("one", "two"):
                data = f"data: {word}\\n\\n"
                self.wfile.write(f"{len(data):x}\\r\\n{data}\\r\\n".encode())
                self.wfile.flush()
                go.wait()
            self.wfile.write(b"0\\r\\n\\r\\n")

        def echo(self):
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response_only(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.send_header("Sec-WebSocket-Protocol", self.headers.get("Sec-WebSocket-Protocol", "").split(",")[0])
            self.end_headers()
            while True:
                kind, length = self.rfile.read(2)
                length &= 127
                if length == 126:
                    length = int.from_bytes(self.rfile.read(2), "big")
                mask = self.rfile.read(4)
                data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(length)))
                head = bytes([kind, length]) if length < 126 else bytes([kind, 126]) + length.to_bytes(2, "big")
                self.wfile.write(head + data)
                if kind & 15 == 8:
                    self.close_connection = True
                    return

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    address, port = (*sys.argv[2:], *("", 8000)[len(sys.argv) - 2 :])
    Server((address, int(port)), Handler).serve_forever()
"""


def spec(*services: str, name: str = "shop") -> dict[str, str]:
    """Each is a name and, after a space, more attributes in flow style."""
    lines = [f"name: {name}", "services:"]
    for service in services:
        called, _, more = service.partition(" ")
        given = more if "expose" in more or "proxy" in more else f"expose: [8000]{', ' * bool(more)}{more}"
        command = "" if "command" in more else f"command: [python3, -S, /p/app.py, {called}], "
        lines.append(
            f'  {called}: {{image: "host:", {command}stop_signal: SIGKILL, volumes: [".:/p:ro"], {given}}}',
        )
    return {"devenv.yaml": "\n".join([*lines, ""]), "app.py": APP}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Proxy:
    def __init__(self, devenv: runner.Devenv) -> None:
        self.devenv = devenv
        devenv("proxy", "start", "-d", "--https", "0", "--http", "0")
        self.status = devenv.json("proxy", "status")
        assert self.status["Status"] == "running"

    def curl(self, host: str, path: str = "/", *arguments: str, scheme: str = "https") -> str:
        """With the status on a line of its own at the end."""
        port = self.status[scheme.upper()]
        command = ["curl", "-sS", "--max-time", "20", "--path-as-is", "--cacert", self.status["Certificate"]]
        command += ["-w", "\n%{http_code}", "--resolve", f"{host}:{port}:127.0.0.1", *arguments]
        done = subprocess.run([*command, f"{scheme}://{host}:{port}{path}"], capture_output=True, text=True)
        return done.stdout + done.stderr

    def seen(self, host: str, path: str = "/", *arguments: str) -> dict[str, object]:
        """What the service was asked."""
        text, _, status = self.curl(host, path, *arguments).rpartition("\n")
        assert status == "200", text
        found: dict[str, object] = json.loads(text)
        return found

    def until(self, host: str, said: str, status: int) -> str:
        def look() -> str:
            text, _, code = self.curl(host).rpartition("\n")
            assert (said in text, code) == (True, str(status)), (code, text)
            return text

        return eventually(look, 30)


@pytest.fixture
def proxy_of() -> Iterator[object]:
    made: list[Proxy] = []

    def make(devenv: runner.Devenv) -> Proxy:
        made.append(Proxy(devenv))
        return made[-1]

    yield make
    for each in made:
        each.devenv("proxy", "stop", code=None)


def rows(devenv: runner.Devenv, *, by: str = "Service") -> dict[str, dict[str, str]]:
    lines = devenv("proxy", "ls", "--format", "json").stdout.splitlines()
    return {row[by]: row for row in map(json.loads, lines)}


def processes(devenv: runner.Devenv) -> list[str]:
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if "devenv-proxy" in text and devenv.run_directory in text:
            found.append(text)
    return found


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_services_by_name(anyone: runner.Devenv, project: projects.Project, proxy_of) -> None:  # type: ignore[no-untyped-def]
    """One on all addresses, one on its own localhost alone, a database, one on its localhost with another name."""
    free = free_port()
    project.write(
        spec(
            "web",
            "local command: [python3, -S, /p/app.py, local, 127.0.0.1], proxy: {port: 8000, host: api.v1}",
            "db command: [sleep, infinity], expose: [5432]",
            "off proxy: false",
            f"hosted network_mode: host, command: [python3, -S, /p/app.py, hosted, 127.0.0.1, '{free}'], proxy: {free}",
        )
    )
    proxy = proxy_of(anyone)
    assert "No project is called" in proxy.curl("web.shop.localhost")
    anyone("up", "-d")
    proxy.until("web.shop.localhost", '"web"', 200)
    port = proxy.status["HTTPS"]
    seen = proxy.seen("web.shop.localhost", "/a//b%2Fc/../d?q=%20+&r", "-H", "X-Forwarded-For: 6.6.6.6")
    assert seen["path"] == "/a//b%2Fc/../d?q=%20+&r"
    headers = seen["headers"]
    assert isinstance(headers, dict)
    assert headers["host"] == f"web.shop.localhost:{port}"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-host"] == headers["host"]
    assert headers["x-forwarded-port"] == str(port)
    assert "accept-encoding" not in headers
    assert proxy.seen("tenant.web.shop.localhost")["name"] == "web"
    proxy.until("api.v1.shop.localhost", '"local"', 200)
    proxy.until("hosted.shop.localhost", '"hosted"', 200)
    # As it was, and nothing that the service didn't say.
    head = proxy.curl("web.shop.localhost", "/", "-i")
    assert "200 Fine" in head
    assert head.count("Set-Cookie: ") == 2
    assert "Content-Type" not in head
    assert "Server" not in head
    said = proxy.curl("db.shop.localhost")
    assert "has no port to lead to" in said
    assert said.endswith("\n502")
    assert "No service is called `off.shop.localhost`" in proxy.curl("off.shop.localhost")
    index = proxy.curl("shop.localhost", "/", "-H", "Accept: text/html")
    assert f'<a href="https://web.shop.localhost:{port}">' in index
    assert "off." not in index
    assert "https://shop.localhost" in proxy.curl("localhost")
    led = proxy.curl("web.shop.localhost", "/x?y", "-i", scheme="http")
    assert f"Location: https://web.shop.localhost:{port}/x?y" in led
    shown = rows(anyone)
    assert shown["local"]["URL"] == f"https://api.v1.shop.localhost:{port}"
    assert shown["web"]["Status"] == "running"
    assert shown["db"]["Status"] == "no HTTP port"
    key = pathlib.Path(anyone.data, "proxy/ca.key")
    assert key.stat().st_mode & 0o777 == 0o600
    anyone("proxy", "stop")
    assert not processes(anyone)
    assert not pathlib.Path(anyone.run_directory, "proxy").exists()
    assert sorted(os.listdir(key.parent)) == ["ca.crt", "ca.key", "lock"]


def test_bodies_events_and_sockets(devenv: runner.Devenv, project: projects.Project, proxy_of) -> None:  # type: ignore[no-untyped-def]
    project.write(spec("web"))
    proxy = proxy_of(devenv)
    devenv("up", "-d")
    proxy.until("web.shop.localhost", '"web"', 200)
    large = project / "large"
    with open(large, "wb") as file:
        file.truncate(64 << 20)
    assert proxy.curl("web.shop.localhost", "/", "--data-binary", f"@{large}") == f"{64 << 20}\n200"
    chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue", "--data-binary", f"@{large}"]
    assert proxy.curl("web.shop.localhost", "/", *chunked) == f"{64 << 20}\n200"
    # The service ends the connection that was kept just as the next request is on its way.
    for further in ([], ["-d", "three"], ["-X", "PUT", "-d", "three"]):
        proxy.seen("web.shop.localhost", "/last")
        assert proxy.curl("web.shop.localhost", "/", *further).endswith("\n200"), further
    # Encoded as it came, and whole, though it has no length and the service speaks HTTP/1.0.
    assert proxy.curl("web.shop.localhost", "/gzip", "--compressed") == f"{'small ' * 1000}\n200"
    # A body that breaks off is not passed off as whole, and no answer is said to be none.
    assert "curl: (" in proxy.curl("web.shop.localhost", "/half")
    said = proxy.curl("web.shop.localhost", "/silent")
    assert "`web` of `shop` gave no proper answer on port 8000" in said
    assert said.endswith("\n502")
    assert 'http-equiv="refresh"' in proxy.curl("web.shop.localhost", "/silent", "-H", "Accept: text/html")
    # Whoever hangs up ends the request to the service, too.
    assert "(28)" in proxy.curl("web.shop.localhost", "/hang", "--max-time", "0.3")
    assert proxy.curl("web.shop.localhost", "/hung") == "True\n200"
    assert "Content-Length: 12345" in proxy.curl("web.shop.localhost", "/", "-I")
    asyncio.run(_streams(proxy))
    assert pathlib.Path(devenv.run_directory, "proxy/log").read_text() == ""


async def _streams(proxy: Proxy) -> None:
    context = ssl.create_default_context(cafile=proxy.status["Certificate"])
    base = f"https://web.shop.localhost:{proxy.status['HTTPS']}"
    connector = aiohttp.TCPConnector(ssl=context, resolver=_Loopback())
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as session:
        async with session.get(f"{base}/events") as events:
            assert await events.content.readuntil(b"\n\n") == b"data: one\n\n"
            # The second waits for this: nothing was held back, and other requests go on meanwhile.
            async with session.get(f"{base}/go") as answer:
                assert answer.status == 200
            assert await events.content.read() == b"data: two\n\n"
        async with session.ws_connect(f"{base}/ws", protocols=["hmr", "other"]) as hmr:
            assert hmr.protocol == "hmr"
            await hmr.send_str("grüezi")
            assert await hmr.receive_str() == "grüezi"
            await hmr.send_bytes(bytes(range(250)) * 100)
            assert await hmr.receive_bytes() == bytes(range(250)) * 100
            await hmr.close(code=4001)
            assert hmr.close_code == 4001
        seen = set()
        for _ in range(3):
            async with session.get(base) as answer:
                seen.add((await answer.json(content_type=None))["connection"])
        # Connections to the service are kept.
        assert len(seen) == 1


class _Loopback(aiohttp.abc.AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[aiohttp.abc.ResolveResult]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


def test_who_speaks_http2_alone_is_led_through(devenv: runner.Devenv, project: projects.Project, proxy_of) -> None:  # type: ignore[no-untyped-def]
    """As gRPC clients do. The bytes are the service's, whatever they are."""
    echo = """
        import socket

        server = socket.create_server(("", 9000))
        while True:
            client, _ = server.accept()
            while data := client.recv(1 << 16):
                client.sendall(data)
            client.close()
    """
    project.write(spec("rpc command: [python3, -S, /p/echo.py], proxy: 9000", "web") | {"echo.py": echo})
    proxy = proxy_of(devenv)
    devenv("up", "-d")
    proxy.until("web.shop.localhost", '"web"', 200)
    context = ssl.create_default_context(cafile=proxy.status["Certificate"])

    def said(host: str, data: bytes, *protocols: str) -> bytes:
        context.set_alpn_protocols(protocols)
        with (
            socket.create_connection(("127.0.0.1", proxy.status["HTTPS"]), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=host) as client,
        ):
            client.sendall(data)
            found = b""
            while len(found) < len(data) and (more := client.recv(1 << 16)):
                found += more
            return found

    data = os.urandom(100_000)
    eventually(lambda: said("rpc.shop.localhost", data, "h2") == data, 30)
    assert said("none.shop.localhost", b"?", "h2") == b""
    # Who offers both has HTTP/1.1.
    assert said(
        "web.shop.localhost", b"GET / HTTP/1.0\r\nHost: web.shop.localhost\r\n\r\n", "h2", "http/1.1"
    ).startswith(b"HTTP/1.0 200 Fine")


def test_as_services_come_and_go(devenv: runner.Devenv, project: projects.Project, proxy_of) -> None:  # type: ignore[no-untyped-def]
    project.write(spec("web"))
    proxy = proxy_of(devenv)
    devenv("up", "-d")
    first = json.loads(proxy.until("web.shop.localhost", '"web"', 200))["host"]
    devenv("restart", "web")
    proxy.until("web.shop.localhost", '"web"', 200)
    devenv("stop", "web")
    said = proxy.curl("web.shop.localhost", "/")
    assert "is not running" in said
    assert f"--project-directory {project.path} up -d web" in said
    assert said.endswith("\n503")
    assert rows(devenv)["web"]["Status"] == "not running"
    assert "port 8000, not running" in proxy.curl("shop.localhost")
    devenv("up", "-d", "--force-recreate", "--scale", "web=3")
    hosts = set()

    def all_three() -> bool:
        hosts.add(proxy.seen("web.shop.localhost")["host"])
        return len(hosts) == 3

    eventually(all_three, 30)
    assert first not in hosts
    # Another port by the spec takes effect at once, and makes no container anew.
    before = {row["ID"] for row in devenv.ps().values()}
    project.edit(r"expose: \[8000\]", "expose: [8000], proxy: 81")
    devenv("up", "-d", "--scale", "web=3")
    assert {row["ID"] for row in devenv.ps().values()} == before
    written = next(pathlib.Path(devenv.data, "projects").glob("*/desired.json")).stat()
    devenv("up", "-d", "--scale", "web=3")
    again = next(pathlib.Path(devenv.data, "projects").glob("*/desired.json")).stat()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert "Nothing listens on port 81" in proxy.curl("web.shop.localhost")
    # The other processes of the project may die: the proxy finds the next ones.
    project.edit(", proxy: 81", "")
    devenv("up", "-d", "--scale", "web=3")
    for log in pathlib.Path(devenv.run_directory, "projects").glob("*/ports.lock"):
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if f"devenv-ports:{log.parent.name}" in path.read_text(errors="replace"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
            except OSError:
                continue
    proxy.until("web.shop.localhost", '"web"', 200)
    devenv("down")
    assert "No project is called" in proxy.curl("web.shop.localhost")


def test_two_projects_and_two_checkouts(devenv: runner.Devenv, project: projects.Project, proxy_of) -> None:  # type: ignore[no-untyped-def]
    other = projects.Project(project.path.parent / "other")
    again = projects.Project(project.path.parent / "again")
    project.write(spec("web"))
    other.write(spec("web", name="my_blog"))
    again.write(spec("web"))
    proxy = proxy_of(devenv)
    for each in (project, other, again):
        devenv("up", "-d", cwd=each)
    proxy.until("web.shop.localhost", '"web"', 200)
    named = {each: row["URL"].split("/")[2].split(":")[0] for each, row in rows(devenv, by="Folder").items()}
    assert named[str(project.path)] == "web.shop.localhost"
    assert named[str(other.path)] == "web.my-blog.localhost"
    assert named[str(again.path)].startswith("web.shop-")
    hosts = set()
    for host in named.values():
        proxy.until(host, '"web"', 200)
        hosts.add(proxy.seen(host)["host"])
    assert len(hosts) == 3
    devenv("down")
    # Whoever is left has the short name.
    assert proxy.seen("web.shop.localhost")["host"] in hosts


def test_starting_and_ending(devenv: runner.Devenv, proxy_of) -> None:  # type: ignore[no-untyped-def]
    assert devenv.json("proxy", "status")["Status"] == "not running"
    assert "does not run" in devenv("proxy", "stop", code=2).stderr
    proxy = proxy_of(devenv)
    assert "runs already" in devenv("proxy", "start", "-d").stderr
    assert "runs already" in devenv("proxy", "start", code=2).stderr
    assert "is not served here" in proxy.curl("example.com", "/", "-k", "-H", "Host: evil.test", scheme="http")
    # No certificate for other names than its own.
    assert "\n000curl: (35)" in proxy.curl("example.com")
    assert pathlib.Path(devenv.run_directory, "proxy/log").read_text() == ""
    os.kill(proxy.status["Pid"], signal.SIGKILL)
    eventually(lambda: devenv.json("proxy", "status")["Status"] == "not running", 30)
    foreground = devenv.start("proxy", "start", "--https", "0", "--no-http")
    assert foreground.stdout is not None
    assert foreground.stdout.readline().startswith("https://localhost:")
    again = devenv.json("proxy", "status")
    assert again["HTTP"] == 0
    # The authority stays.
    assert again["SHA256"] == proxy.status["SHA256"]
    taken = devenv("proxy", "start", code=2).stderr
    assert "runs already" in taken
    foreground.send_signal(signal.SIGTERM)
    assert foreground.wait(30) == 0
    foreground.communicate()
    assert not pathlib.Path(devenv.run_directory, "proxy").exists()


@pytest.mark.skipif(trust.store() is None, reason="needs the program `update-ca-certificates`")
@pytest.mark.parametrize("anyone", ["dvplain"], indirect=True)
def test_ports_that_cannot_be_had(anyone: runner.Devenv) -> None:
    said = anyone("proxy", "start", "--https", "443", code=1).stderr
    assert "port 443 is reserved for root" in said
    assert "net.ipv4.ip_unprivileged_port_start=443" in said
    try:
        said = anyone("proxy", "start", "-d").stderr
        assert "so it is 8443" in said
        assert "so it is 8080" in said
        assert "ip_unprivileged_port_start" in said
        told = anyone("proxy", "trust").stdout
        store = trust.store()
        assert store is not None
        assert f"sudo {' '.join(store.command)}" in told
        assert f"{anyone.data}/proxy/ca.crt" in told
    finally:
        anyone("proxy", "stop")
