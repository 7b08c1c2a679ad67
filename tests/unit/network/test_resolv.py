"""resolv.conf: what a container's says, by the host's and by the spec."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devenv.network import resolv

HOST = "nameserver 127.0.0.53\nsearch corp.example lan\noptions edns0 trust-ad timeout:3\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text(HOST)
    monkeypatch.setattr(resolv, "PATH", str(path))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 1.1.1.1\nnameserver fe80::1%eth0\n", ("1.1.1.1", "fe80::1%eth0")),
        ("# nameserver 1.1.1.1\nnameserver\n; none\n", ()),
    ],
)
def test_nameservers(text: str, expected: tuple[str, ...]) -> None:
    assert resolv.parse(text).nameservers == expected


def test_the_projects_name_server_is_all_that_is_asked(host: Path) -> None:
    assert resolv.content(nameserver="127.0.0.11", dns=["9.9.9.9"]).splitlines() == [
        "nameserver 127.0.0.11",
        "search corp.example lan",
        "options timeout:3 ndots:0",
    ]


def test_the_spec_stands_in_for_the_host(host: Path) -> None:
    found = resolv.content(nameserver="127.0.0.11", search=["."], options=["rotate", "ndots:2"])
    assert found == "nameserver 127.0.0.11\noptions rotate ndots:2\n"
    assert "search a b\n" in resolv.content(nameserver="127.0.0.11", search=["a", "b"])


def test_without_a_name_server_of_ours_the_hosts_file_holds(host: Path) -> None:
    assert resolv.content() == HOST
    assert resolv.content(dns=["9.9.9.9"]).splitlines()[:2] == ["nameserver 9.9.9.9", "search corp.example lan"]
    host.unlink()
    assert resolv.content() == ""


def test_a_changed_file_counts_at_once(host: Path) -> None:
    current = resolv.Current()
    assert current.now() == ("127.0.0.53",)
    other = host.with_name("other")
    other.write_text("nameserver 192.0.2.53\n")
    os.rename(other, host)
    assert current.now() == ("192.0.2.53",)
    host.unlink()
    assert current.now() == ("127.0.0.1",)
