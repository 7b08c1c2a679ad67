"""What is refused before anything is touched, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from devenv import errors
from devenv.reconcile import checking, convert, desired
from devenv.runtime import cgroup, offered


def environment(**services: dict[str, Any]) -> desired.Environment:
    project = {"name": "shop", "services": services, "networks": {"default": {"name": "shop_default"}}}
    return desired.from_json({"project": project, "directory": "/shop"})


def check(service: dict[str, Any], scale: int = 1) -> None:
    checking.check(environment(web=service), ["web"], {"web": scale})


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ({"network_mode": "nonsense"}, "`network_mode: nonsense` is not one of"),
        ({"pid": "private"}, "`pid: private`"),
        ({"uts": "service:db"}, "`uts: service:db`"),
        ({"ipc": "shared"}, "`ipc: shared`"),
        ({"volumes": [{"type": "bind", "source": "/a", "target": "b"}]}, "`b` is not an absolute path"),
        ({"volumes": [{"type": "volume", "target": "d:/b"}]}, "drive of Windows"),
        ({"volumes": [{"type": "bind", "source": "/a", "target": "/proc/"}]}, "the place of `/proc`"),
        ({"tmpfs": ["run"]}, "`tmpfs: run`"),
        ({"ulimits": {"files": 5}}, "`files` is no limit"),
        ({"ulimits": {"nofile": {"soft": 10, "hard": 5}}}, "soft limit 10 is above"),
        ({"ulimits": {"nofile": {"soft": -1, "hard": 5}}}, "soft limit -1 is above"),
        ({"cpus": -1.0}, "negative"),
        ({"mem_limit": "-5"}, "`-5` is not a size"),
        ({"mem_limit": "1m"}, "6m is the least"),
        ({"mem_limit": "64m", "memswap_limit": "32m"}, "below its memory limit"),
        ({"memswap_limit": "64m"}, "needs a memory limit"),
        ({"mem_limit": "64m", "mem_reservation": "65m"}, "`mem_reservation` is above"),
        ({"mem_swappiness": "101"}, "`mem_swappiness: 101`"),
        ({"cpus": 1.0, "cpu_quota": 5000}, "twice"),
        ({"cpu_period": 999}, "`cpu_period: 999`"),
        ({"cpu_quota": 999}, "`cpu_quota: 999`"),
        ({"cpuset": "0-"}, "`0-` is no list"),
        ({"cpuset": "first"}, "`first` is no list"),
        ({"blkio_config": {"weight": 9}}, "the weight 9 is not between 10 and 1000"),
        ({"blkio_config": {"weight_device": [{"path": "/dev/x", "weight": 1001}]}}, "the weight 1001"),
        ({"logging": {"options": {"max-size": "large"}}}, "`logging: max-size: large`"),
        ({"logging": {"options": {"max-file": "0"}}}, "`logging: max-file: 0`"),
        ({"environment": {"": "x"}}, "has no name"),
        ({"environment": {"A": "b\0c"}}, "NUL"),
        ({"entrypoint": [""]}, "empty word"),
        ({"hostname": "two words"}, "`hostname: two words`"),
        ({"hostname": "x" * 65}, "at most 64"),
        ({"healthcheck": {"test": ["CMD"]}}, "names no command"),
        ({"extra_hosts": ["far=nowhere"]}, "`nowhere` is no address for `far`"),
        ({"dns": ["localhost"]}, "`dns: localhost`"),
        # One word of a hosts file or a resolv.conf each, and no line of its own (CVE-2022-4318).
        ({"hostname": "a\n10.0.0.1 b"}, "`hostname"),
        ({"domainname": "a\n10.0.0.1 b"}, "`domainname`"),
        ({"container_name": "a\n"}, "`container_name`"),
        ({"extra_hosts": ["far\n10.0.0.1 bank=10.0.0.2"]}, "`extra_hosts`"),
        ({"extra_hosts": {"far away": "10.0.0.2"}}, "`extra_hosts`"),
        ({"links": ["db:a\nb"]}, "`links`"),
        ({"networks": {"default": {"aliases": ["a\n10.0.0.1 b"]}}}, "`aliases`"),
        ({"dns": ["10.0.0.1\nsearch evil"]}, "`dns: "),
        ({"dns_search": ["a\nnameserver 10.0.0.1"]}, "`dns_search`"),
        ({"dns_search": "a\rb"}, "`dns_search`"),
        ({"dns_opt": ["ndots:1\nnameserver 10.0.0.1"]}, "`dns_opt`"),
        # The host's, not the container's (CVE-2022-0811).
        ({"sysctls": {"kernel.core_pattern": "|/bin/x"}}, "`kernel.core_pattern`"),
        ({"sysctls": {"net.ipv4.ip_forward": "1"}, "network_mode": "host"}, "host network namespace"),
        ({"sysctls": {"kernel.shmmax": "1"}, "ipc": "host"}, "hosts ipc namespace"),
        ({"sysctls": {"net.ipv4.ip_forward": "1\n2"}}, "malformed"),
        ({"cap_add": ["FLY"]}, "`FLY` is not a capability"),
        ({"stop_signal": "SIGFOO"}, "`SIGFOO` is not a signal"),
        ({"restart": "sometimes"}, "restart"),
        ({"networks": {"default": {"mac_address": "02:0:0:0:0:1"}}}, "six pairs"),
        ({"networks": {"default": {"mac_address": "03:00:00:00:00:01"}}}, "multicast"),
    ],
)
def test_what_could_never_run_is_refused(service: dict[str, Any], problem: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        check(service)
    assert problem in caught.value.message


@pytest.mark.parametrize(
    "service",
    [
        {},
        {"network_mode": "service:db", "pid": "container:x", "ipc": "shareable", "uts": "host"},
        {"ulimits": {"core": {}, "memlock": -1, "nofile": {"soft": 5, "hard": -1}}},
        {"hostname": "a.b-c", "extra_hosts": ["a=::1", "b=host-gateway"], "dns": ["1.1.1.1", "fd00::1"]},
        {"mem_limit": "64m", "memswap_limit": "-1", "cpus": 0, "mem_swappiness": "0"},
        {"cpuset": "0", "cpu_quota": -1, "cpu_period": 1000, "memswap_limit": "-1"},
        {"logging": {"options": {"max-size": "-1", "max-file": "3", "tag": "x"}}},
        {"healthcheck": {"test": ["NONE"]}},
    ],
)
def test_what_can_run_passes(service: dict[str, Any]) -> None:
    check(service)


def test_a_processor_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "limits_available", lambda: {"cpuset": ""})
    monkeypatch.setattr(offered, "processors", lambda: {0, 1})
    check({"cpuset": "0-1"})
    with pytest.raises(errors.SpecError, match=r"processors that this machine doesn't have: there are 0, 1"):
        check({"cpuset": "1,7"})
    # Where none can be bound to anyhow, a warning says so and the service starts.
    monkeypatch.setattr(cgroup, "limits_available", lambda: {"cpuset": "no cgroup is delegated"})
    check({"cpuset": "1,7"})


def port(published: str, **more: str) -> dict[str, Any]:
    return {"target": 80, "published": published, "protocol": "tcp", **more}


def test_two_services_can_not_have_one_port() -> None:
    two = environment(web={"ports": [port("8080")]}, api={"ports": [port("8080")]})
    with pytest.raises(errors.NetworkError, match="services `api` and `web` both publish port `8080/tcp`"):
        checking.check(two, ["api", "web"], {})
    checking.check(two, ["web"], {})
    apart = environment(
        web={"ports": [port("8080", host_ip="127.0.0.1")]}, api={"ports": [port("8080", host_ip="::1")]}
    )
    checking.check(apart, ["api", "web"], {})


def test_replicas_need_a_range() -> None:
    with pytest.raises(errors.NetworkError, match="the replicas of `web`"):
        check({"ports": [port("8080")]}, scale=2)
    check({"ports": [port("8080-8090")]}, scale=2)
    check({"ports": [port("")]}, scale=2)


def test_a_service_on_the_hosts_network_publishes_nothing() -> None:
    service = {"network_mode": "host", "ports": [port("8080")]}
    checking.check(environment(web=service, api={"ports": [port("8080")]}), ["api", "web"], {})
    assert any("not published" in text for text in convert.warnings("web", service))


@pytest.mark.parametrize("parent", ["../up", "/a//b", "a/./b", "a/.."])
def test_a_parent_cgroup_lies_below_the_root(parent: str) -> None:
    with pytest.raises(errors.SpecError, match="no cgroup below the root"):
        check({"cgroup_parent": parent})


def test_a_parent_cgroup_by_path_and_by_slice() -> None:
    for given, path in (("/a/b/", "a/b"), ("/", ""), ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice")):
        check({"cgroup_parent": given})
        assert convert.cgroup_parent({"cgroup_parent": given}) == path


def test_what_has_no_effect_says_what_has() -> None:
    for attribute in convert.NOT_EFFECTIVE:
        (text,) = convert.warnings("web", {attribute: {"x": "y"}})
        assert f"`{attribute}` has no effect (" in text
    (text,) = convert.warnings("web", {"runtime": "crun", "cgroup_parent": "x"})
    assert "`cgroup_parent` has no effect with `runtime: crun`" in text


@pytest.mark.parametrize("mode", ["bridge", "default"])
def test_dockers_bridge_is_the_projects_network(mode: str) -> None:
    project = {"name": "shop", "services": {"web": {"network_mode": mode}, "api": {}}}
    found = desired.from_json({"project": project, "directory": "/shop"})
    assert not found.services["web"]["network_mode"]
    assert found.services["web"]["networks"] == {"default": None}
    assert found.services["api"] == {}
    assert found.definitions("networks") == {"default": {"name": "shop_default"}}
