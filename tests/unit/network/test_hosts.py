"""The hosts file as each container gets it."""

from __future__ import annotations

import os
from pathlib import Path

from devenv.network import hosts


def host(number: int, service: str, places: dict[str, str], **more: object) -> hosts.Host:
    name = f"shop-{service}-{number}"
    return hosts.Host(
        id=f"{service}{number}",
        path="",
        hostname=f"id{number}",
        service=service,
        places={network: hosts.Place((address,), (name, service)) for network, address in places.items()},
        **more,  # type: ignore[arg-type]
    )


def resolve(one: hosts.Host, others: list[hosts.Host], name: str) -> list[str]:
    lines = (line.split() for line in hosts.render(one, others).splitlines())
    return [words[0] for words in lines if name in words[1:]]


WEB = host(1, "web", {"front": "10.0.0.2"})
API = host(2, "api", {"front": "10.0.0.3", "back": "10.1.0.3"})
API2 = host(3, "api", {"front": "10.0.0.4", "back": "10.1.0.4"})
DB = host(4, "db", {"back": "10.1.0.5"})
ALL = [WEB, API, API2, DB]


def test_only_who_shares_a_network_is_known() -> None:
    assert resolve(WEB, ALL, "db") == []
    assert resolve(API, ALL, "db") == ["10.1.0.5"]
    assert resolve(DB, ALL, "web") == []


def test_a_service_is_all_of_its_replicas_and_a_container_name_is_one() -> None:
    assert sorted(resolve(WEB, ALL, "api")) == ["10.0.0.3", "10.0.0.4"]
    assert resolve(WEB, ALL, "shop-api-3") == ["10.0.0.4"]


def test_a_stopped_container_is_not_resolved_by_others() -> None:
    stopped = host(3, "api", {"front": "10.0.0.4"}, running=False)
    assert resolve(WEB, [WEB, API, stopped], "api") == ["10.0.0.3"]


def test_localhost_and_the_own_hostname() -> None:
    assert resolve(WEB, ALL, "localhost") == ["127.0.0.1", "::1"]
    assert resolve(WEB, ALL, "id1") == ["10.0.0.2"]
    assert resolve(host(9, "lone", {}), [], "id9") == ["127.0.1.1"]
    named = host(9, "lone", {"n": "10.0.0.9"}, domainname="example")
    assert resolve(named, [], "id9.example") == ["10.0.0.9"]


def test_extra_hosts_and_the_hosts_own_address() -> None:
    one = host(
        1,
        "web",
        {"front": "10.0.0.2"},
        extra_hosts={"gate": ["host-gateway"], "two": ["1.1.1.1", "::2"]},
        host_gateway="10.0.0.1",
    )
    assert resolve(one, [], "gate") == ["10.0.0.1"]
    assert resolve(one, [], "two") == ["1.1.1.1", "::2"]
    assert resolve(one, [], "host.docker.internal") == ["10.0.0.1"]
    assert resolve(WEB, ALL, "host.docker.internal") == []


def test_links_are_for_one_containers_eyes_only() -> None:
    one = host(1, "web", {"front": "10.0.0.2"}, links={"backend": "api"})
    assert sorted(resolve(one, [*ALL[1:], one], "backend")) == ["10.0.0.3", "10.0.0.4"]
    assert resolve(API, ALL, "backend") == []


def test_a_file_is_rewritten_in_place_and_only_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    assert hosts.write(str(path), "127.0.0.1\tlocalhost\nand more\n")
    inode = path.stat().st_ino
    assert hosts.write(str(path), "short\n")
    assert path.read_text() == "short\n"
    assert not hosts.write(str(path), "short\n")
    assert path.stat().st_ino == inode


def test_all_files_are_updated_and_a_vanished_one_is_passed_over(tmp_path: Path) -> None:
    there = hosts.Host(id="a", path=str(tmp_path / "hosts"), hostname="a")
    gone = hosts.Host(id="b", path=str(tmp_path / "gone" / "hosts"), hostname="b")
    assert hosts.update([there, gone]) == 1
    assert os.listdir(tmp_path) == ["hosts"]
