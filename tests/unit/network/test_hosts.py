"""The hosts file as each container gets it."""

from __future__ import annotations

from pathlib import Path

from devenv.network import hosts


def resolve(one: hosts.Host, name: str) -> list[str]:
    lines = (line.split() for line in hosts.render(one).splitlines())
    return [words[0] for words in lines if name in words[1:]]


def test_localhost_and_the_own_hostname() -> None:
    web = hosts.Host(hostname="id1", addresses=("10.0.0.2", "fd00::2"))
    assert resolve(web, "localhost") == ["127.0.0.1", "::1"]
    assert resolve(web, "id1") == ["10.0.0.2", "fd00::2"]
    assert resolve(hosts.Host(hostname="id9"), "id9") == ["127.0.1.1"]
    named = hosts.Host(hostname="id9", domainname="example", addresses=("10.0.0.9",))
    assert resolve(named, "id9.example") == ["10.0.0.9"]


def test_extra_hosts_and_the_hosts_own_address() -> None:
    one = hosts.Host(
        hostname="web",
        addresses=("10.0.0.2",),
        extra_hosts={"gate": ["host-gateway"], "two": ["1.1.1.1", "::2"]},
        host_gateway="10.0.0.1",
    )
    assert resolve(one, "gate") == ["10.0.0.1"]
    assert resolve(one, "two") == ["1.1.1.1", "::2"]
    assert resolve(one, "host.docker.internal") == ["10.0.0.1"]
    assert resolve(hosts.Host(hostname="web"), "host.docker.internal") == []


def test_without_the_hosts_address_what_stands_for_it_has_none() -> None:
    one = hosts.Host(hostname="web", extra_hosts={"gate": ["host-gateway"], "both": ["host-gateway", "1.1.1.1"]})
    assert hosts.given(one) == {"both": ("1.1.1.1",)}


def test_a_file_is_rewritten_in_place_and_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    assert hosts.write(str(path), "127.0.0.1\tlocalhost\nand more\n")
    inode = path.stat().st_ino
    assert hosts.write(str(path), "short\n")
    assert path.read_text() == "short\n"
    assert not hosts.write(str(path), "short\n")
    assert path.stat().st_ino == inode
