"""resolv.conf: what of the host's can work inside, and what the spec changes."""

from __future__ import annotations

import pytest

from devenv.network import resolv

THREE = ("1.1.1.1", "1.1.1.2", "1.1.1.3")
UPSTREAM = "nameserver 10.0.0.53\nsearch lan\n"


@pytest.mark.parametrize(
    ("host", "upstream", "expected"),
    [
        ("nameserver 1.1.1.1\nnameserver 8.8.8.8\n", "", ("1.1.1.1", "8.8.8.8")),
        ("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", UPSTREAM, ("10.0.0.53",)),
        ("nameserver 127.0.0.1\nnameserver 9.9.9.9\n", UPSTREAM, ("9.9.9.9",)),
        ("nameserver ::1\nnameserver fe80::1%eth0\n", "", ()),
        ("# nameserver 1.1.1.1\nnameserver\n; none\n", "", ()),
        ("nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 4.4.4.4", "", THREE),
    ],
)
def test_nameservers(host: str, upstream: str, expected: tuple[str, ...]) -> None:
    assert resolv.choose(host, upstream).nameservers == expected


def test_replacements_stand_in_for_the_hosts_servers_only() -> None:
    chosen = resolv.choose("nameserver 1.1.1.1\nsearch corp\noptions ndots:2 edns0\n", "", ["169.254.1.1"])
    assert chosen == resolv.Settings(("169.254.1.1",), ("corp",), ("ndots:2",))


def test_the_spec_comes_first() -> None:
    settings = resolv.Settings(("1.1.1.1",), ("corp",), ("ndots:2",))
    assert resolv.render(settings) == "nameserver 1.1.1.1\nsearch corp\noptions ndots:2\n"
    assert resolv.render(settings, dns=["9.9.9.9"], search=["."], options=["rotate"]) == (
        "nameserver 9.9.9.9\noptions rotate\n"
    )
    assert resolv.render(settings, search=["a", "b"]).splitlines()[1] == "search a b"
