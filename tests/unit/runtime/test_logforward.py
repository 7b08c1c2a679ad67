"""Copies of lines to journald and syslog, against sockets that stand where those would listen."""

from __future__ import annotations

import json
import pathlib
import re
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devenv.runtime import logforms, logforward, loop

ID = "0123456789abcdef" * 4
RECORD = {"id": ID, "name": "shop-web-1", "image": "web:1", "image_id": f"sha256:{ID}", "labels": {"com.team": "a\nb"}}


@pytest.fixture
def turning() -> Iterator[loop.Loop]:
    made = loop.Loop()
    yield made
    made.close()


def record(**logging: str) -> dict[str, Any]:
    return {**RECORD, "logging": logging}


def listener(path: pathlib.Path, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    made.settimeout(5)
    return made


def until(turning: loop.Loop, done: Any) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        turning.turn(0.05)


def test_the_journals_fields(short_path: pathlib.Path, turning: loop.Loop) -> None:
    with listener(short_path / "journal", socket.SOCK_DGRAM) as journal:
        form = logforms.journal(record(tag="x/{{.Name}}", labels="com.team,none"))
        copy = logforward.Forwarder(logforward.Sink(turning, f"unixgram://{short_path}/journal"), form)
        copy.feed("stderr", b"half a ")
        copy.feed("stdout", b"between\n")
        copy.feed("stderr", b"line\r\n\nlast")
        copy.close()
        found = [journal.recv(1 << 16) for _ in range(3)]
    assert [re.findall(rb"^MESSAGE=(.*)$", each, re.M) for each in found] == [[b"between"], [b"half a line"], [b"last"]]
    for line in (
        f"CONTAINER_ID={ID[:12]}",
        f"CONTAINER_ID_FULL={ID}",
        "CONTAINER_NAME=shop-web-1",
        "CONTAINER_TAG=x/shop-web-1",
        "SYSLOG_IDENTIFIER=x/shop-web-1",
        "IMAGE_NAME=web:1",
        "PRIORITY=3",
    ):
        assert f"{line}\n".encode() in found[1]
    assert b"PRIORITY=6\n" in found[0]
    assert b"COM_TEAM\n" + struct.pack("<Q", 3) + b"a\nb\n" in found[0]
    assert b"NONE" not in found[0]


def test_a_long_line_comes_in_pieces() -> None:
    sent: list[tuple[bytes, bool]] = []

    def form(stream: str, line: bytes, partial: bool) -> bytes:
        sent.append((line, partial))
        return line

    quiet = logforward.Sink(loop.Loop(), "unixgram:///nonexistent/socket")
    copy = logforward.Forwarder(quiet, form)
    text = bytes(range(65, 90)) * 2000
    for start in range(0, len(text), 700):
        copy.feed("stdout", text[start : start + 700])
    copy.feed("stdout", b"\n")
    assert b"".join(line for line, _ in sent) == text
    assert [partial for _, partial in sent] == [True, True, True, False]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, r"<30>\w{3} [ \d]\d \d\d:\d\d:\d\d 0123456789ab\[\d+\]: hello"),
        ({"syslog-format": "rfc3164"}, r"<30>\w{3} [ \d]\d [\d:]{8} \S+ 0123456789ab\[\d+\]: hello"),
        ({"syslog-format": "rfc5424", "tag": "a b"}, r"<30>1 [-\dT:]{19}Z \S+ a_b \d+ a_b - hello"),
        (
            {"syslog-format": "rfc5424micro", "syslog-facility": "local7"},
            r"<190>1 [-\dT:]{19}\.\d{6}Z \S+ 0123456789ab \d+ 0123456789ab - hello",
        ),
    ],
)
def test_the_forms_of_syslog(options: dict[str, str], expected: str) -> None:
    assert re.fullmatch(expected, logforms.syslog(record(**options))("stdout", b"hello", False).decode())


def test_a_stream_that_comes_late_and_reads_slowly(short_path: pathlib.Path, turning: loop.Loop) -> None:
    """Nothing waits for it, what is held arrives whole and in order, and of the rest one hears how much it was."""
    place = short_path / "container"
    place.mkdir()
    (place / "container.json").write_text(
        json.dumps(record(driver="syslog", **{"syslog-address": f"unix://{short_path}/log"}))
    )
    copy = logforward.begin(str(place), turning)
    assert copy is not None
    for number in range(20_000):
        copy.feed("stdout", b"line %d %s\n" % (number, b"x" * 80))
    with listener(short_path / "log", socket.SOCK_STREAM) as log:
        log.listen()
        log.setblocking(False)
        got = b""
        peers: list[socket.socket] = []

        def read() -> bool:
            nonlocal got
            try:
                if not peers:
                    peers.append(log.accept()[0])
                    peers[0].setblocking(False)
                got += peers[0].recv(1 << 16)
            except BlockingIOError:
                pass
            return b"line 7000 " in got

        until(turning, read)
        copy.feed("stdout", b"later\n")
        until(turning, lambda: read() and b"later\n" in got)
        copy.close()
        peers[0].close()
    numbers = [int(each) for each in re.findall(rb"line (\d+) ", got)]
    assert numbers == list(range(len(numbers)))
    missing = re.search(rb"\[devenv: (\d+) lines are missing here: `devenv logs` has them\]", got)
    assert missing is not None
    assert len(numbers) + int(missing[1]) == 20_000


def test_no_copy_unless_asked(tmp_path: pathlib.Path, turning: loop.Loop) -> None:
    (tmp_path / "container.json").write_text(json.dumps(record()))
    assert logforward.begin(str(tmp_path), turning) is None
