"""By way of a proxy, as the environment says: a tunnel for TLS, whole addresses for plain HTTP."""

from __future__ import annotations

import base64
import contextlib
import pathlib
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest

from devenv.image import reference
from devenv.image.registry import client, errors
from tests.integration.registry import conftest
from tests.support import fake_registry

pytestmark = pytest.mark.root  # an address that is no loopback, where no proxy is used

ADDRESS = "198.51.100.2"
DATA = b'{"schemaVersion": 2, "layers": []}'


class Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://me:pa%3Ass@127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        first = self.rfile.readline().decode()
        head = [first]
        while (line := self.rfile.readline().decode()) not in {"\r\n", ""}:
            head.append(line)
        self.server.asked.append(first.rpartition(" ")[0])
        self.server.logins += [line.split()[-1] for line in head if line.startswith("Proxy-Authorization")]
        if self.server.refuses:
            self.wfile.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = first.split()
        authority = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = authority.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Go on\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                head[0] = f"{method} {path} HTTP/1.1\r\n"
                far.sendall("".join((*head, "Connection: close\r\n\r\n")).encode())
            back = threading.Thread(target=_pour, args=(far, self.connection))
            back.start()
            if method == "CONNECT":
                _pour(self.connection, far)
            back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(environ: dict[str, str], host: str) -> bytes:
    talk = client.Client(environ, policy=conftest.QUICK)
    try:
        return talk.resolver(reference.parse(f"{host}/x:1")).root().data
    finally:
        talk.close()


def insecure(environ: dict[str, str], host: str) -> None:
    path = pathlib.Path(environ["HOME"], ".config/devenv/config.toml")
    path.parent.mkdir(parents=True)
    path.write_text(f'registries."{host}".insecure = true\n')


def tls(folder: pathlib.Path) -> ssl.SSLContext:
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=x"
        f" -addext subjectAltName=IP:{ADDRESS} -keyout {folder}/key -out {folder}/crt".split(),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    return context


def test_a_tunnel(environ: dict[str, str], proxy: Proxy, tmp_path: pathlib.Path) -> None:
    with fake_registry.running(address="0.0.0.0", tls=tls(tmp_path)) as registry:
        registry.add_manifest(DATA, tag="1")
        host = f"{ADDRESS}:{registry.port}"
        environ |= {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(tmp_path / "crt")}
        assert get(environ, host) == DATA
        assert proxy.asked == [f"CONNECT {host}"]
        assert proxy.logins == [base64.b64encode(b"me:pa:ss").decode()]
        proxy.asked.clear()
        assert get({**environ, "NO_PROXY": ADDRESS}, host) == DATA
        assert proxy.asked == []
        proxy.refuses = True
        with pytest.raises(errors.Unreachable, match="Tunnel connection failed: 403"):
            get(environ, host)


def test_plain_http(environ: dict[str, str], proxy: Proxy) -> None:
    with fake_registry.running(address="0.0.0.0") as registry:
        registry.add_manifest(DATA, tag="1")
        host = f"{ADDRESS}:{registry.port}"
        insecure(environ, host)
        environ |= {"http_proxy": proxy.url}
        assert get(environ, host) == DATA
        assert proxy.asked[-1] == f"GET http://{host}/v2/x/manifests/1"
        assert not any("proxy-authorization" in request.headers for request in registry.requests if not proxy.logins)
