from __future__ import annotations

import os
import socket

import pytest

from devenv import errors
from devenv.runtime import protocol


@pytest.fixture
def pair():
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


def test_message_and_descriptors_arrive_together(pair) -> None:
    reader, writer = os.pipe()
    protocol.send(pair[0], protocol.encode({"op": "exec", "seq": 1, "text": "ü\n"}), (writer,))
    os.close(writer)
    packet = protocol.receive(pair[1])
    assert packet is not None
    assert packet.message == {"op": "exec", "seq": 1, "text": "ü\n"}
    assert not os.get_inheritable(packet.fds[0])
    os.write(packet.fds[0], b"x")
    assert os.read(reader, 1) == b"x"
    protocol.close_all([reader, *packet.fds])


def test_largest_message_fits(pair) -> None:
    message = {"text": "x" * (protocol.LIMIT - 11)}
    data = protocol.encode(message)
    assert len(data) == protocol.LIMIT
    protocol.send(pair[0], data)
    packet = protocol.receive(pair[1])
    assert packet is not None
    assert packet.message == message


def test_larger_is_refused_on_both_sides(pair) -> None:
    with pytest.raises(protocol.ProtocolError, match="limit"):
        protocol.encode({"text": "x" * protocol.LIMIT})
    pair[0].send(b"x" * (protocol.LIMIT + 1))
    with pytest.raises(protocol.ProtocolError, match="limit"):
        protocol.receive(pair[1])


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[1]", b"null", b"[" * 50_000, b'{"a":1}{"b":2}'])
def test_what_is_no_object_is_refused(pair, data: bytes) -> None:
    pair[0].send(data)
    with pytest.raises(protocol.ProtocolError):
        protocol.receive(pair[1])


def test_descriptors_of_a_bad_message_are_closed(pair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    protocol.send(pair[0], b"no json", (0, 1))
    with pytest.raises(protocol.ProtocolError):
        protocol.receive(pair[1])
    protocol.send(pair[0], b"{}", tuple([0] * (protocol.MAX_FDS + 8)))
    with pytest.raises(protocol.ProtocolError):
        protocol.receive(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_end_of_connection(pair) -> None:
    pair[0].close()
    assert protocol.receive(pair[1]) is None


def test_errors_cross_with_their_hint() -> None:
    content = protocol.error(errors.HostError("no such thing", hint="get one"))
    with pytest.raises(errors.HostError, match="no such thing") as caught:
        protocol.raise_error(content)
    assert caught.value.hint == "get one"
    with pytest.raises(errors.ContainerError, match="No space left"):
        protocol.raise_error(protocol.error(OSError(28, "No space left on device")))


def test_peer_is_known(pair) -> None:
    assert protocol.peer_uid(pair[0]) == os.geteuid()
