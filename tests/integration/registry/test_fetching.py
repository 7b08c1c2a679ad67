"""Blobs by a client that believes nothing: against a registry that tells the truth, and one that does not."""

from __future__ import annotations

import hashlib
import os
import random
import threading

import pytest

from devenv.image import descriptor, reference
from devenv.image.registry import client, errors
from tests.support import fake_registry

KIND = "application/vnd.oci.image.layer.v1.tar+gzip"
DATA = random.Random(1).randbytes(700_000)


class Target:
    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    @property
    def offset(self) -> int:
        return len(self.data)

    def write(self, data: memoryview) -> None:
        self.data += data


def wanted(data: bytes = DATA, **changes: object) -> descriptor.Descriptor:
    found = descriptor.Descriptor(KIND, fake_registry.digest(data), len(data))
    return found._replace(**changes)  # type: ignore[arg-type]


def name(registry: fake_registry.Registry, text: str = "x:1") -> reference.Reference:
    return reference.parse(f"{registry.host}/{text}")


def fetch(
    talk: client.Client, registry: fake_registry.Registry, target: Target, blob: descriptor.Descriptor | None = None
) -> bytes:
    talk.fetcher(name(registry)).fetch(blob or wanted(), target)
    return bytes(target.data)


def is_blob(handler: fake_registry.Handler) -> bool:
    return "/blobs/sha256:" in handler.path


def test_a_blob_arrives(talk: client.Client, registry: fake_registry.Registry) -> None:
    registry.add_blob(DATA, KIND)
    assert fetch(talk, registry, Target()) == DATA


def test_what_is_there_is_not_fetched_again(talk: client.Client, registry: fake_registry.Registry) -> None:
    registry.add_blob(DATA, KIND)
    assert fetch(talk, registry, Target(DATA[:300_000])) == DATA
    assert registry.requests[-1].headers["range"] == "bytes=300000-"
    before = len(registry.requests)
    assert fetch(talk, registry, Target(DATA)) == DATA
    assert len(registry.requests) == before


def test_an_empty_blob_needs_no_request(talk: client.Client, registry: fake_registry.Registry) -> None:
    assert fetch(talk, registry, Target(), wanted(b"")) == b""


@pytest.mark.parametrize("after", [0, 1, 4096, 262_144, 699_999])
def test_a_cut_is_resumed_where_it_was(talk: client.Client, registry: fake_registry.Registry, after: int) -> None:
    registry.add_blob(DATA, KIND)
    cuts = [after]

    def cut(handler: fake_registry.Handler) -> bool:
        if not is_blob(handler) or not cuts:
            return False
        handler.send(200, DATA[: cuts.pop()], Content_Length=str(len(DATA)))
        handler.wfile.flush()
        handler.close_connection = True
        return True

    registry.rules.append(cut)
    assert fetch(talk, registry, Target()) == DATA
    second = registry.requests[-1].headers
    assert second.get("range") == (f"bytes={after}-" if after else None)


def test_a_line_that_drops_again_and_again_delivers_in_the_end(
    talk: client.Client, registry: fake_registry.Registry
) -> None:
    """Each attempt that got further counts as the first."""
    registry.add_blob(DATA, KIND)

    def cut(handler: fake_registry.Handler) -> bool:
        if not is_blob(handler):
            return False
        first = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        more = {"Content_Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}"} if first else {}
        piece = DATA[first : first + 50_000]
        handler.send(206 if first else 200, piece, Content_Length=str(len(DATA) - first), **more)
        handler.close_connection = True
        return True

    registry.rules.append(cut)
    assert fetch(talk, registry, Target()) == DATA
    assert len([path for path in registry.paths() if "/blobs/" in path]) == 14


def test_a_server_without_ranges_sends_all_of_it_again(talk: client.Client, registry: fake_registry.Registry) -> None:
    registry.add_blob(DATA, KIND)
    registry.rules.append(lambda handler: is_blob(handler) and (handler.send(200, DATA) or True))
    assert fetch(talk, registry, Target(DATA[:123_457])) == DATA


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_passing_error_is_waited_for(talk: client.Client, registry: fake_registry.Registry, status: int) -> None:
    registry.add_blob(DATA, KIND)
    left = [status, status]
    registry.rules.append(lambda handler: is_blob(handler) and bool(left) and (handler.fail(left.pop(), "X") or True))
    assert fetch(talk, registry, Target()) == DATA


def test_a_lasting_error_ends(talk: client.Client, registry: fake_registry.Registry) -> None:
    registry.rules.append(lambda handler: is_blob(handler) and (handler.fail(503, "DOWN") or True))
    with pytest.raises(errors.Unreachable, match="has an error of its own: 503, down"):
        fetch(talk, registry, Target())
    assert len(registry.paths()) == 1 + 4  # whether it speaks plain HTTP, and four attempts


def test_too_many_requests_with_a_time_is_waited_for(talk: client.Client, registry: fake_registry.Registry) -> None:
    registry.add_blob(DATA, KIND)
    left = ["0"]

    def refuse(handler: fake_registry.Handler) -> bool:
        return (
            is_blob(handler) and bool(left) and (handler.fail(429, "TOOMANYREQUESTS", Retry_After=left.pop()) or True)
        )

    registry.rules.append(refuse)
    assert fetch(talk, registry, Target()) == DATA


@pytest.mark.parametrize("wish", [None, "86400"])
def test_too_many_requests_says_what_to_do(
    talk: client.Client, registry: fake_registry.Registry, wish: str | None
) -> None:
    more = {"Retry_After": wish} if wish else {}
    registry.rules.append(lambda handler: is_blob(handler) and (handler.fail(429, "TOOMANYREQUESTS", **more) or True))
    with pytest.raises(errors.RateLimited, match="toomanyrequests") as caught:
        fetch(talk, registry, Target())
    assert caught.value.hint is not None
    assert f"log in with `devenv registry login {registry.host}`" in caught.value.hint
    assert "mirrors" in caught.value.hint
    assert ("wait 86400 s" if wish else "wait some hours") in caught.value.hint
    assert len([path for path in registry.paths() if "/blobs/" in path]) == 1


# -- a registry that lies ---------------------------------------------------------------------------------------------


def answer(status: int, data: bytes = b"", **headers: str) -> object:
    return lambda handler: is_blob(handler) and (handler.send(status, data, **headers) or True)


LIES = {
    "longer": (answer(200, DATA + b"x"), "700001 bytes"),
    "shorter": (answer(200, DATA[:-1]), "699999 bytes"),
    "another part": (answer(206, DATA[5:], Content_Range="bytes 5-699999/700000"), "other bytes"),
    "a part of nothing": (answer(206, DATA[100:]), "other bytes"),
    "a part of something else": (answer(206, DATA[100:], Content_Range="bytes 100-699999/9"), "other bytes"),
    "a part that is no number": (answer(206, DATA[100:], Content_Range="bytes x-y/z"), "other bytes"),
    "nothing there": (answer(416), "no bytes from 100 on"),
    "to an address that is none": (answer(307, Location="ftp://x/y"), "address that is none"),
    "with a login in the address": (answer(307, Location="http://a:b@localhost/"), "address that is none"),
    "to nowhere": (answer(307), "redirects more than 5 times"),
    "to a secret": (answer(307, Location="http://169.254.169.254/latest"), "redirects to `169.254.169.254`: refused"),
    "round and round": (answer(302, Location="/v2/x/blobs/sha256:again"), "redirects more than 5 times"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused(talk: client.Client, registry: fake_registry.Registry, lie: str) -> None:
    rule, message = LIES[lie]
    registry.rules.append(rule)  # type: ignore[arg-type]
    target = Target(DATA[:100])
    with pytest.raises(errors.Untrustworthy, match=message):
        fetch(talk, registry, target)
    assert bytes(target.data) == DATA[:100]


def test_more_bytes_than_promised_without_a_length(talk: client.Client, registry: fake_registry.Registry) -> None:
    """Nothing is written beyond what the target allows: it is the one that raises."""

    def endless(handler: fake_registry.Handler) -> bool:
        if not is_blob(handler):
            return False
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        while True:
            handler.wfile.write(bytes(65536))

    class Strict(Target):
        def write(self, data: memoryview) -> None:
            if self.offset + len(data) > len(DATA):
                raise OverflowError
            super().write(data)

    registry.rules.append(endless)
    with pytest.raises(OverflowError):
        fetch(talk, registry, Strict())


def test_heads_of_any_size_are_not_read(talk: client.Client, registry: fake_registry.Registry) -> None:
    def flood(handler: fake_registry.Handler) -> bool:
        if not is_blob(handler):
            return False
        handler.send_response(200)
        for number in range(1000):
            handler.send_header(f"X-{number}", "y" * 1000)
        handler.end_headers()
        return True

    registry.rules.append(flood)
    with pytest.raises(errors.Untrustworthy, match="does not answer as a registry does"):
        fetch(talk, registry, Target())


@pytest.mark.parametrize("when", ["head", "body", "last body"])
def test_an_abort_ends_a_wait(talk: client.Client, registry: fake_registry.Registry, when: str) -> None:
    begun, over = threading.Event(), threading.Event()

    def silent(handler: fake_registry.Handler) -> bool:
        if not is_blob(handler):
            return False
        if when != "head":
            more = {"Connection": "close"} if when == "last body" else {}
            handler.send(200, b"x", Content_Length=str(len(DATA)), **more)
            handler.wfile.flush()
        else:
            begun.set()
        over.wait(20)
        return True

    class Begun(Target):
        def write(self, data: memoryview) -> None:
            super().write(data)
            begun.set()

    registry.rules.append(silent)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            fetch(talk, registry, Begun())
        except errors.RegistryError as exc:
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(20)
    talk.abort()
    thread.join(10)
    over.set()
    assert str(raised[0]) == "the transfer was broken off"


def test_unknown_hosts_and_closed_ports(talk: client.Client) -> None:
    nobody = reference.parse("localhost:1/x:1")
    with pytest.raises(errors.Unreachable, match=r"`localhost:1` can't be reached: Connection refused"):
        talk.fetcher(nobody).fetch(wanted(), Target())


def test_urls_of_a_descriptor_are_not_followed(talk: client.Client, registry: fake_registry.Registry) -> None:
    """CVE-2020-15157: `urls` made clients send their login elsewhere."""
    given = {"mediaType": KIND, "digest": wanted().digest, "size": len(DATA), "urls": [f"{registry.url}/elsewhere"]}
    with pytest.raises(errors.NotFound):
        fetch(talk, registry, Target(), descriptor.parse(given, what="x"))
    assert "/elsewhere" not in registry.paths()


def test_random_cuts(talk: client.Client, registry: fake_registry.Registry) -> None:
    source = random.Random(7)
    data = os.urandom(1 << 20)
    registry.add_blob(data, KIND)

    def cut(handler: fake_registry.Handler) -> bool:
        if not is_blob(handler) or source.random() < 0.2:
            return False
        first = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        more = {"Content_Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        size = source.randint(1, 200_000)
        handler.send(206 if first else 200, data[first : first + size], Content_Length=str(len(data) - first), **more)
        handler.hang_up()
        return True

    registry.rules.append(cut)
    target = Target()
    talk.fetcher(name(registry)).fetch(wanted(data), target)
    assert hashlib.sha256(target.data).digest() == hashlib.sha256(data).digest()
