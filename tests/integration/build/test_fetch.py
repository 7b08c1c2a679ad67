"""ADD of addresses, from a server on loopback that counts what it is asked."""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devenv import errors
from devenv.build import fetch
from devenv.image.registry import retry

MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"


@dataclasses.dataclass
class Server:
    address: str = ""
    content: bytes = b"content\n"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    redirect: str = ""
    fail: int = 0  # answers 503 so often
    cut: int = 0  # breaks off so often
    rights: str = ""
    asked: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    seen: list[dict[str, str]] = dataclasses.field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    state: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        state = self.state
        state.seen.append(dict(self.headers))
        if self.path.startswith("/moved"):
            self._answer(302, b"", {"Location": state.redirect})
        elif state.rights and self.headers.get("Authorization") != state.rights:
            self._answer(401, b"")
        elif state.fail:
            state.fail -= 1
            self._answer(503, b"")
        elif "none" in self.path:
            self._answer(404, b"")
        elif self._has_it():
            self._answer(304, None)
        else:
            self._answer(200, state.content, state.headers)

    def _has_it(self) -> bool:
        asked = (self.headers.get("If-None-Match"), self.headers.get("If-Modified-Since"))
        return any(value and value in asked for value in self.state.headers.values())

    def _answer(self, code: int, body: bytes | None, headers: dict[str, str] | None = None) -> None:
        self.state.asked.append((self.path, code))
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if code == 200 and self.state.cut:
            self.state.cut -= 1
            self.wfile.write((body or b"")[:3])
            self.close_connection = True
        elif body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    handler = type("Handler", (Handler,), {"state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        state.address = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


@pytest.fixture
def fetcher(tmp_path: Path) -> Iterator[fetch.Fetcher]:
    secrets = {"HTTP_AUTH_TOKEN_127.0.0.1": b"secret\n"}
    made = fetch.Fetcher(str(tmp_path / "data"), {}, secret=secrets.get)
    yield made
    made.close()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_file(server: Server, fetcher: fetch.Fetcher) -> None:
    server.headers = {"Last-Modified": MODIFIED}
    progress: list[tuple[int, int]] = []
    found = fetcher.file(f"{server.address}/dir/file%20name.txt?x=1#y", progress=lambda *told: progress.append(told))
    status = os.stat(found.path)
    assert (found.name, found.digest) == ("file name.txt", digest(server.content))
    assert (oct(status.st_mode & 0o777), int(status.st_mtime)) == ("0o600", 1445412480)
    assert progress[-1] == (8, 8)
    assert server.asked == [("/dir/file%20name.txt?x=1", 200)]
    chosen = found.selection()
    assert chosen.tree is not None
    assert [root.name for root in chosen.roots] == ["file name.txt"]
    chosen.tree.close()


def test_without_a_date_it_is_as_old_as_time(server: Server, fetcher: fetch.Fetcher) -> None:
    assert os.stat(fetcher.file(f"{server.address}/x").path).st_mtime == 0


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": MODIFIED}])
def test_what_has_not_changed_is_not_sent_again(
    server: Server, fetcher: fetch.Fetcher, headers: dict[str, str]
) -> None:
    server.headers = headers
    first, again = (fetcher.file(f"{server.address}/x") for _ in range(2))
    assert first == again
    assert [code for _, code in server.asked] == [200, 304]
    server.headers, server.content = {"ETag": '"two"'}, b"other"
    assert Path(fetcher.file(f"{server.address}/x").path).read_bytes() == b"other"


def test_a_date_of_just_now_is_no_version(server: Server, fetcher: fetch.Fetcher) -> None:
    """It may be changed once more in the same second."""
    server.headers = {"Last-Modified": email.utils.formatdate(usegmt=True)}
    fetcher.file(f"{server.address}/x")
    server.content = b"other"
    assert fetcher.file(f"{server.address}/x").digest == digest(b"other")


def test_a_checksum_asks_nobody(server: Server, fetcher: fetch.Fetcher) -> None:
    wanted = digest(server.content)
    assert fetcher.file(f"{server.address}/x", checksum=wanted).digest == wanted
    server.content = b"other"
    assert fetcher.file(f"{server.address}/x", checksum=wanted).digest == wanted
    assert len(server.asked) == 1


def test_another_checksum(server: Server, fetcher: fetch.Fetcher) -> None:
    server.headers = {"ETag": '"one"'}
    wanted = f"sha512:{hashlib.sha512(server.content).hexdigest()}"
    for _ in range(3):
        fetcher.file(f"{server.address}/x", checksum=wanted)
    assert [code for _, code in server.asked] == [200]


@pytest.mark.parametrize("checksum", ["sha256:" + "0" * 64, "sha512:" + "0" * 128])
def test_a_wrong_checksum(server: Server, fetcher: fetch.Fetcher, checksum: str) -> None:
    with pytest.raises(errors.BuildError, match="is not what its checksum says"):
        fetcher.file(f"{server.address}/x", checksum=checksum)


@pytest.mark.parametrize("checksum", ["md5:" + "0" * 32, "sha256:abc", "0" * 64])
def test_what_is_no_checksum(server: Server, fetcher: fetch.Fetcher, checksum: str) -> None:
    with pytest.raises(errors.BuildError, match="is no checksum"):
        fetcher.file(f"{server.address}/x", checksum=checksum)
    assert server.asked == []


def test_redirects_and_rights(server: Server, fetcher: fetch.Fetcher) -> None:
    server.rights = "Bearer secret"
    server.redirect = "/other/name"
    found = fetcher.file(f"{server.address}/moved/here")
    assert found.name == "here"
    assert server.asked == [("/moved/here", 302), ("/other/name", 200)]
    server.redirect = server.address.replace("127.0.0.1", "localhost") + "/x"
    with pytest.raises(errors.BuildError, match="the server answers 401"):  # another host is told no secret
        fetcher.file(f"{server.address}/moved/there")
    assert "Authorization" not in server.seen[-1]


def test_a_password_in_the_address_is_used_and_not_shown(server: Server, fetcher: fetch.Fetcher) -> None:
    server.rights = "Basic dTpw"
    address = server.address.replace("://", "://u:p@")
    fetcher.file(f"{address}/x")
    with pytest.raises(errors.BuildError, match=r"http://u:xxxxx@127\.0\.0\.1:\d+/none` can't be had: .*404"):
        fetcher.file(f"{address}/none")


def test_a_redirect_without_end(server: Server, fetcher: fetch.Fetcher) -> None:
    server.redirect = "/moved/again"
    with pytest.raises(errors.BuildError, match="redirects more than 10 times"):
        fetcher.file(f"{server.address}/moved")


def test_to_where_clouds_keep_secrets(server: Server, fetcher: fetch.Fetcher) -> None:
    server.redirect = "http://169.254.169.254/latest/meta-data"
    with pytest.raises(errors.BuildError, match="refused"):
        fetcher.file(f"{server.address}/moved")


def test_what_fails_for_a_moment_is_tried_again(server: Server, fetcher: fetch.Fetcher) -> None:
    server.fail, server.cut = 1, 1
    assert fetcher.file(f"{server.address}/x").digest == digest(server.content)
    assert [code for _, code in server.asked] == [503, 200, 200]


def test_nobody_there(fetcher: fetch.Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devenv.image.registry.retry.DEFAULT", retry.Policy(attempts=1))
    with pytest.raises(errors.BuildError, match=r"`http://127\.0\.0\.1:9/x` can't be had"):
        fetcher.file("http://127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://a/b/c.txt", "c.txt"),
        ("http://a/b/", "b"),
        ("http://a", "__unnamed__"),
        ("http://a/..", "__unnamed__"),
        ("http://a/%2e%2e%2fevil", "evil"),
        ("http://a/x?y=/z", "x"),
    ],
)
def test_names(url: str, name: str) -> None:
    assert fetch.name_of(url) == name
