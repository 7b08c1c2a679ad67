"""Servers by the bytes that they send; the real ones are in ``tests/e2e/test_real_services.py``."""

from __future__ import annotations

import socket

import pytest

from devenv.health import greetings

STARTING = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
NO_DATABASE = b"SFATAL\0C3D000\0Mdatabase does not exist\0\0"


def error(body: bytes) -> bytes:
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("postgres", b"R\0\0\0\x08\0\0\0\x03", ""),
        ("postgres", error(NO_DATABASE), ""),
        ("postgres", error(STARTING), "the database system is starting up"),
        ("postgres", b"HTTP/1.1 400 Bad Request\r\n", "does not speak"),
        ("postgres", b"", "hung up"),
        ("mysql", packet(b"\x0a8.0.36\0"), ""),
        ("mysql", packet(b"\xff\x6a\x04Host is not allowed"), ""),
        ("mysql", packet(b"\xff\x10\x04Too many connections"), "error 1040"),
        ("redis", b"+PONG\r\n", ""),
        ("redis", b"-NOAUTH Authentication required.\r\n", ""),
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        ("rabbitmq", b"\x01\0\0\0\0\0\x0a", ""),
        ("rabbitmq", b"HTTP", "does not speak AMQP"),
        ("mongodb", (36).to_bytes(4, "little") + b"\0" * 8 + (2013).to_bytes(4, "little"), ""),
        ("memcached", b"VERSION 1.6\r\n", ""),
        ("memcached", b"SERVER_ERROR\r\n", "does not speak"),
        ("nats", b'INFO {"server_id"', ""),
        ("smtp", b"220 mail\r\n", ""),
        ("smtp", b"421 later\r\n", "421 later"),
    ],
)
def test_what_an_answer_means(kind: str, answer: bytes, reason: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        try:
            greetings.GREETINGS[kind](ours)
            said = ""
        except greetings.NotReady as exc:
            said = str(exc)
    assert reason in said
    assert bool(reason) == bool(said)
