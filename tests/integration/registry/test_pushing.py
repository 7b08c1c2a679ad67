"""Blobs and manifests on their way out, to a registry that loses connections, forgets uploads, or sends them away."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Callable

import pytest

from devenv.image import descriptor, reference
from devenv.image.registry import client, credentials, errors, pusher
from tests.integration.registry import conftest
from tests.support import fake_registry

DATA = random.Random(3).randbytes(300_000)
BLOB = descriptor.Descriptor("application/octet-stream", fake_registry.digest(DATA), len(DATA))
Rule = Callable[[fake_registry.Handler], bool]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    (tmp_path / "blob").write_bytes(DATA)
    return str(tmp_path / "blob")


def out(talk: client.Client, registry: fake_registry.Registry, *, piece: int = pusher.PIECE) -> pusher.Pusher:
    made = talk.pusher(reference.parse(f"{registry.host}/x"))
    made._piece = piece
    return made


def once(method: str, do: Callable[[fake_registry.Handler], object], *, skip: int = 0) -> Rule:
    """The first request of the kind, or the one after ``skip`` of them, is answered by ``do``."""
    count = [skip + 1]

    def rule(handler: fake_registry.Handler) -> bool:
        if handler.command != method or "/uploads/" not in handler.path:
            return False
        count[0] -= 1
        if count[0] == 0:
            do(handler)
            return True
        return False

    return rule


@pytest.mark.parametrize("piece", [pusher.PIECE, 300_000, 299_999, 100_000, 70_001])
def test_a_blob_goes_out(talk: client.Client, registry: fake_registry.Registry, path: str, piece: int) -> None:
    seen: list[int] = []
    assert out(talk, registry, piece=piece).blob(BLOB, path, progress=seen.append) == "pushed"
    assert registry.blobs[BLOB.digest] == DATA
    assert max(seen) == len(DATA)
    ranges = [each.headers["content-range"] for each in registry.requests if each.method == "PATCH"]
    assert len(ranges) == (0 if piece >= len(DATA) else -(-len(DATA) // piece))
    assert out(talk, registry).blob(BLOB, path) == "exists"


def test_a_mount_sends_nothing(talk: client.Client, registry: fake_registry.Registry, path: str) -> None:
    registry.add_blob(DATA, "", "other")
    assert out(talk, registry).blob(BLOB, path, mount_from="other") == "mounted"
    assert BLOB.digest in registry.owners["x"]


def test_a_mount_that_is_not_to_be_had(talk: client.Client, registry: fake_registry.Registry, path: str) -> None:
    assert out(talk, registry).blob(BLOB, path, mount_from="other") == "pushed"
    registry.owners.clear()
    registry.rules.append(once("POST", lambda handler: handler.fail(405, "UNSUPPORTED")))
    assert out(talk, registry).blob(BLOB, path, mount_from="other") == "pushed"


BREAKS: dict[str, Callable[[fake_registry.Handler], object]] = {
    "hangs up": lambda handler: handler.hang_up(),
    "passing error": lambda handler: handler.fail(503, "DOWN"),
    "too busy": lambda handler: handler.fail(429, "TOOMANYREQUESTS", Retry_After="0"),
}


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize(("method", "skip"), [("POST", 0), ("PUT", 0), ("PATCH", 0), ("PATCH", 1)])
def test_a_break_is_got_over(
    talk: client.Client, registry: fake_registry.Registry, path: str, method: str, skip: int, kind: str
) -> None:
    registry.rules.append(once(method, BREAKS[kind], skip=skip))
    assert out(talk, registry, piece=100_000 if method == "PATCH" else pusher.PIECE).blob(BLOB, path) == "pushed"
    assert registry.blobs[BLOB.digest] == DATA


def test_a_piece_that_arrived_is_not_sent_again(
    talk: client.Client, registry: fake_registry.Registry, path: str
) -> None:
    """The connection broke after the piece was taken, before that was said."""

    def take_and_hang_up(handler: fake_registry.Handler) -> None:
        registry.uploads[handler.path] += handler.body
        handler.hang_up()

    registry.rules.append(once("PATCH", take_and_hang_up, skip=1))
    assert out(talk, registry, piece=100_000).blob(BLOB, path) == "pushed"
    starts = [each.headers["content-range"] for each in registry.requests if each.method == "PATCH"]
    assert starts == ["0-99999", "100000-199999", "200000-299999"]


def test_a_forgotten_upload_begins_anew(talk: client.Client, registry: fake_registry.Registry, path: str) -> None:
    """As distribution does when it was cut in the middle of a piece."""

    def forget(handler: fake_registry.Handler) -> None:
        registry.uploads.clear()
        handler.hang_up()

    registry.rules.append(once("PATCH", forget, skip=1))
    assert out(talk, registry, piece=100_000).blob(BLOB, path) == "pushed"
    assert registry.blobs[BLOB.digest] == DATA


def test_who_never_takes_it(talk: client.Client, registry: fake_registry.Registry, path: str) -> None:
    registry.rules.append(lambda handler: handler.command == "PATCH" and (handler.fail(503, "DOWN") or True))
    with pytest.raises(errors.Unreachable, match="503, down"):
        out(talk, registry, piece=100_000).blob(BLOB, path)
    assert len(registry.paths("PATCH")) < 20


def test_one_that_is_refused_is_not_tried_again(
    talk: client.Client, registry: fake_registry.Registry, path: str
) -> None:
    registry.rules.append(lambda handler: handler.command == "PUT" and (handler.fail(413, "TOO_LARGE") or True))
    with pytest.raises(errors.RegistryError, match="413"):
        out(talk, registry).blob(BLOB, path)
    assert len(registry.paths("PUT")) == 1


@pytest.mark.parametrize("location", ["", "ftp://x/", "http://u:p@x/"])
def test_nowhere_to_upload_to(talk: client.Client, registry: fake_registry.Registry, path: str, location: str) -> None:
    registry.rules.append(
        once("POST", lambda handler: handler.send(202, **({"Location": location} if location else {})))
    )
    with pytest.raises(errors.Untrustworthy):
        out(talk, registry).blob(BLOB, path)


def test_an_upload_elsewhere_gets_no_login(
    environ: dict[str, str], registry: fake_registry.Registry, path: str
) -> None:
    registry.login = ("me", "secret")
    credentials.save(registry.host, credentials.Credential("me", "secret"), environ)
    talk = client.Client(environ, policy=conftest.QUICK)
    with fake_registry.running() as other:
        other.uploads["/v2/x/blobs/uploads/there"] = bytearray()
        there = f"http://127.0.0.1:{other.port}/v2/x/blobs/uploads/there"
        registry.rules.append(
            lambda handler: (
                handler.command == "POST"
                and "Authorization" in handler.headers
                and (handler.send(202, Location=there) or True)
            )
        )
        assert out(talk, registry).blob(BLOB, path) == "pushed"
        assert other.blobs[BLOB.digest] == DATA
        assert not any("authorization" in each.headers for each in other.requests)
    talk.close()


def test_a_manifest_by_tag(talk: client.Client, registry: fake_registry.Registry) -> None:
    data = b'{"schemaVersion": 2}'
    target = descriptor.Descriptor(descriptor.OCI_MANIFEST, fake_registry.digest(data), len(data))
    out(talk, registry).manifest(target, data, tag="1")
    assert registry.manifests["x", "1"] == (descriptor.OCI_MANIFEST, data)
    assert out(talk, registry).has_manifest(target)
    wrong = "sha256:" + "0" * 64
    registry.rules.append(
        lambda handler: handler.command == "PUT" and (handler.send(201, Docker_Content_Digest=wrong) or True)
    )
    with pytest.raises(errors.Untrustworthy, match="the registry took"):
        out(talk, registry).manifest(target, data, tag="1")


def test_a_token_for_pushing(environ: dict[str, str], registry: fake_registry.Registry, path: str) -> None:
    """What one may read suffices to look, and not to push: another token is asked for."""
    registry.token = fake_registry.Token(user="me", password="secret")
    credentials.save(registry.host, credentials.Credential("me", "secret"), environ)
    talk = client.Client(environ, policy=conftest.QUICK)
    assert out(talk, registry).blob(BLOB, path, mount_from="other") == "pushed"
    talk.close()
