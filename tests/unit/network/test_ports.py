"""Compose's ``ports`` and what they clash with."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from devenv import errors
from devenv.network import ports, types


def publication(target: int, first: int, last: int, host_ip: str = "", protocol: str = "tcp") -> types.Publication:
    return types.Publication(target, first, last, host_ip, protocol)


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"target": 80}, [publication(80, 0, 0)]),
        ({"target": 80, "published": ""}, [publication(80, 0, 0)]),
        ({"target": 80, "published": "8080"}, [publication(80, 8080, 8080)]),
        ({"target": 80, "published": 8080, "protocol": "UDP"}, [publication(80, 8080, 8080, "", "udp")]),
        ({"target": 80, "published": "8000-8010"}, [publication(80, 8000, 8010)]),
        ({"target": 80, "published": "80", "host_ip": "[::1]"}, [publication(80, 80, 80, "::1")]),
        ({"target": "80-81", "published": "90-91"}, [publication(80, 90, 90), publication(81, 91, 91)]),
    ],
)
def test_expanded(port: dict[str, Any], expected: list[types.Publication]) -> None:
    assert ports.expand([port]) == expected


@pytest.mark.parametrize(
    "port",
    [
        {"target": 0},
        {"target": 80, "published": "x"},
        {"target": 80, "published": "70000"},
        {"target": 80, "published": "90-80"},
        {"target": 80, "protocol": "sctp"},
    ],
)
def test_refused(port: dict[str, Any]) -> None:
    with pytest.raises(errors.NetworkError):
        ports.expand([port])


def test_described() -> None:
    assert ports.describe(publication(80, 8080, 8080)) == "8080/tcp"
    assert ports.describe(publication(80, 8000, 8010, "::1", "udp")) == "[::1]:8000-8010/udp"


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (publication(80, 80, 80), publication(81, 80, 80), True),
        (publication(80, 80, 80), publication(80, 80, 80, protocol="udp"), False),
        (publication(80, 80, 80, "127.0.0.1"), publication(80, 80, 80, "127.0.0.2"), False),
        (publication(80, 80, 80, "127.0.0.1"), publication(80, 80, 80, "0.0.0.0"), True),
        (publication(80, 80, 80, "127.0.0.1"), publication(80, 80, 80), True),
        (publication(80, 80, 80, "127.0.0.1"), publication(80, 80, 80, "::1"), False),
        (publication(80, 80, 81), publication(80, 80, 81), False),
        (publication(80, 0, 0), publication(80, 0, 0), False),
    ],
)
def test_clashes(one: types.Publication, other: types.Publication, clash: bool) -> None:
    found = ports.clashes([("web", one), ("api", other)])
    assert found == ([("web", "api", other)] if clash else [])


def test_the_holder_of_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        found = ports.holder(listener.getsockname()[1])
        assert found is not None
        assert found.pid == os.getpid()
        also = ports.holder(datagrams.getsockname()[1], protocol="udp")
        assert also is not None
        assert also.pid == os.getpid()
        assert ports.holder(listener.getsockname()[1], host_ip="127.0.0.9") is None
