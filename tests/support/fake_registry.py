"""A registry in the test's own process: small, honest by itself, and made to lie by rules.

    with fake_registry.running() as registry:
        registry.rules.append(rule)          rule(handler) -> True when it has answered by itself
        registry.requests                    what was asked, in order

``Token`` adds a token server, as Docker Hub's and GitHub's are: bearer tokens for somebody anonymous and for one user.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import secrets
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_RANGE = re.compile(r"bytes=(\d+)-")


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    def __init__(self) -> None:
        self.name = "localhost"
        self.port = 0
        self.scheme = "http"
        self.blobs: dict[str, bytes] = {}
        self.owners: dict[str, set[str]] = {}  # repository -> digests of its blobs
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}  # repository, tag or digest -> type, bytes
        self.uploads: dict[str, bytearray] = {}
        self.rules: list[Callable[[Handler], bool]] = []
        self.requests: list[Request] = []
        self.token: Token | None = None
        self.login: tuple[str, str] | None = None  # basic authentication

    @property
    def host(self) -> str:
        return f"{self.name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def paths(self, method: str = "GET") -> list[str]:
        return [request.path for request in self.requests if request.method == method]

    def add_blob(self, data: bytes, kind: str, repository: str = "x") -> dict[str, Any]:
        self.blobs[digest(data)] = data
        self.owners.setdefault(repository, set()).add(digest(data))
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def add_manifest(
        self, value: Mapping[str, Any] | bytes, *, repository: str = "x", tag: str = "", kind: str = OCI_MANIFEST
    ) -> dict[str, Any]:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        for name in (digest(data), *((tag,) if tag else ())):
            self.manifests[repository, name] = (kind, data)
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}


class Token:
    """``realm`` is where the registry says its tokens come from; by itself the registry's own ``/token``."""

    def __init__(self, *, user: str = "", password: str = "", refresh: str = "", life: int | None = 300) -> None:
        self.user, self.password, self.refresh = user, password, refresh
        self.life = life
        self.realm = ""
        self.given: dict[str, set[str]] = {}  # token -> scopes
        self.anonymous_may_pull = not user

    def allows(self, header: str, scope: str) -> bool:
        held = self.given.get(header.removeprefix("Bearer "), set())
        name, _, actions = scope.rpartition(":")
        return any(
            each.rpartition(":")[0] == name and set(actions.split(",")) <= set(each.rpartition(":")[2].split(","))
            for each in held
        )

    def grant(self, scopes: list[str]) -> dict[str, Any]:
        token = secrets.token_hex(8)
        self.given[token] = set(scopes)
        return {"token": token, **({"expires_in": self.life} if self.life is not None else {})}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry
    connection: socket.socket

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

    def answer(self) -> None:
        self.registry.requests.append(Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with contextlib.suppress(ConnectionError):
            if not any(rule(self) for rule in list(self.registry.rules)):
                self.honest()

    def send(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def fail(self, status: int, code: str, **headers: str) -> None:
        self.send(status, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode(), **headers)

    def hang_up(self) -> None:
        """With a reset, as a router that forgets a connection."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.shutdown(socket.SHUT_RDWR)

    # -- the honest part --------------------------------------------------------------------------------------

    def honest(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/token":
            self._give_token(url.query)
            return
        if not self._may(url.path):
            return
        if url.path == "/v2/":
            self.send(200)
        elif match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", url.path):
            self._manifest(match[1], match[2])
        elif match := re.fullmatch(r"/v2/(.+)/blobs/uploads/(.*)", url.path):
            self._upload(match[1], match[2])
        elif match := re.fullmatch(r"/v2/(.+)/blobs/([^/]+)", url.path):
            self._blob(match[1], match[2])
        elif match := re.fullmatch(r"/v2/(.+)/tags/list", url.path):
            tags = sorted(name for repository, name in self.registry.manifests if repository == match[1])
            self.send(200, json.dumps({"name": match[1], "tags": [tag for tag in tags if ":" not in tag]}).encode())
        else:
            self.fail(404, "UNKNOWN")

    def _may(self, path: str) -> bool:
        token, login = self.registry.token, self.registry.login
        given = self.headers.get("Authorization") or ""
        if login is not None and given != "Basic " + base64.b64encode(":".join(login).encode()).decode():
            self.fail(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="test"')
            return False
        if token is None:
            return True
        match = re.match(r"/v2/(.+?)/(?:manifests|blobs|tags)/", path)
        if match is None:
            needed = ""
            allowed = given.removeprefix("Bearer ") in token.given
        else:
            action = "pull" if self.command in {"GET", "HEAD"} else "pull,push"
            needed = f"repository:{match[1]}:{action}"
            allowed = token.allows(given, needed)
        if not allowed:
            scope = f',scope="{needed}"' if needed else ""
            realm = token.realm or f"{self.registry.url}/token"
            self.fail(401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="{realm}",service="test"{scope}')
        return allowed

    def _give_token(self, query: str) -> None:
        token = self.registry.token
        assert token is not None
        given = urllib.parse.parse_qs(self.body.decode() if self.command == "POST" else query)
        scopes = [scope for text in given.get("scope", []) for scope in text.split()]
        if self.command == "POST":
            known = bool(token.refresh) and given.get("refresh_token") == [token.refresh]
        else:
            login = base64.b64encode(f"{token.user}:{token.password}".encode()).decode()
            header = self.headers.get("Authorization")
            known = bool(token.user) and header == f"Basic {login}"
            if header is None:
                scopes = [scope for scope in scopes if token.anonymous_may_pull and scope.endswith(":pull")]
                known = True
        if not known:
            self.fail(401, "UNAUTHORIZED")
            return
        self.send(200, json.dumps(token.grant(scopes)).encode())

    def _manifest(self, repository: str, name: str) -> None:
        if self.command == "PUT":
            kind = self.headers["Content-Type"]
            made = self.registry.add_manifest(self.body, repository=repository, tag=name, kind=kind)
            self.send(201, Docker_Content_Digest=made["digest"])
            return
        if (repository, name) not in self.registry.manifests:
            self.fail(404, "MANIFEST_UNKNOWN")
            return
        kind, data = self.registry.manifests[repository, name]
        self.send(200, data, Content_Type=kind, Docker_Content_Digest=digest(data))

    def _blob(self, repository: str, name: str) -> None:
        if name not in self.registry.owners.get(repository, set()):
            self.fail(404, "BLOB_UNKNOWN")
            return
        data = self.registry.blobs[name]
        match = _RANGE.fullmatch(self.headers.get("Range") or "")
        if match is None:
            self.send(200, data, Docker_Content_Digest=name)
        elif int(match[1]) >= len(data):
            self.fail(416, "RANGE")
        else:
            first = int(match[1])
            self.send(206, data[first:], Content_Range=f"bytes {first}-{len(data) - 1}/{len(data)}")

    def _upload(self, repository: str, name: str) -> None:
        where = f"/v2/{repository}/blobs/uploads/{name or secrets.token_hex(8)}"
        uploads = self.registry.uploads
        if self.command == "POST":
            source, wanted = self.query.get("from", ""), self.query.get("mount", "")
            if source and wanted in self.registry.owners.get(source, set()):
                self.registry.owners.setdefault(repository, set()).add(wanted)
                self.send(201)
                return
            uploads[where] = bytearray()
            self.send(202, Location=where)
        elif where not in uploads:
            self.fail(404, "BLOB_UPLOAD_UNKNOWN")
        elif self.command == "GET":
            self.send(204, Location=where, Range=f"0-{len(uploads[where]) - 1}")
        else:
            uploads[where] += self.body
            if self.command == "PATCH":
                self.send(202, Location=where, Range=f"0-{len(uploads[where]) - 1}")
                return
            data = bytes(uploads.pop(where))
            if digest(data) != self.query["digest"]:
                self.fail(400, "DIGEST_INVALID")
                return
            self.registry.add_blob(data, "", repository)
            self.send(201)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news here."""


class _Server6(_Server):
    address_family = socket.AF_INET6


@contextlib.contextmanager
def running(*, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> Iterator[Registry]:
    registry = Registry()
    handler = type("Handler", (Handler,), {"registry": registry})
    server = (_Server6 if ":" in address else _Server)((address, 0), handler)
    registry.name = f"[{address}]" if ":" in address else "localhost"
    registry.port = server.server_address[1]
    if tls is not None:
        registry.scheme = "https"
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
