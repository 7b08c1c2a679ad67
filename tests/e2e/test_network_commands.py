"""`devenv network …`: networks of nobody's, and containers that change theirs while they run."""

from __future__ import annotations

import json

import pytest

from tests.support import projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

SPEC = """
    name: {name}
    services:
      {service}:
        image: "host:"
        command: [sleep, infinity]
        stop_signal: SIGKILL
        dns: 127.0.0.1
        {more}
"""


def spec(name: str, service: str, more: str = "") -> str:
    return SPEC.format(name=name, service=service, more=more)


def resolves(devenv: runner.Devenv, service: str, name: str, **more: object) -> bool:
    script = f"getent ahostsv4 {name} >/dev/null && echo yes || echo no"
    return devenv.inside(service, script, **more) == "yes"


def routes(devenv: runner.Devenv, service: str) -> str:
    return devenv.inside(service, "ip route show default")


def test_a_network_of_nobody_joins_projects(devenv: runner.Devenv, project: projects.Project) -> None:
    joined = "networks: [meet]\n    networks: {meet: {external: true, name: meeting}}"
    project.write(spec("one", "web", joined))
    assert "network create meeting" in devenv("up", "-d", code=1).stderr
    created = devenv("network", "create", "--subnet", "10.99.0.0/24", "--gateway", "10.99.0.9", "meeting").stdout
    assert len(created.strip()) == 64
    assert "exists already" in devenv("network", "create", "meeting", code=1).stderr
    other = projects.Project(project.path.parent / "q").write(spec("two", "api", joined))
    devenv("up", "-d", "--wait")
    devenv("up", "-d", "--wait", cwd=other)
    eventually(lambda: resolves(devenv, "web", "api"))
    assert resolves(devenv, "api", "web", cwd=other)
    address = devenv.inside("web", "hostname -I").strip()
    assert address.startswith("10.99.0.")
    assert "via 10.99.0.9" in routes(devenv, "web")
    reached = devenv.inside("api", f"bash -c ': </dev/tcp/{address}/9' 2>&1 || true", cwd=other)
    assert "refused" in reached
    (found,) = json.loads(devenv("network", "inspect", "meeting").stdout)
    assert found["IPAM"]["Config"] == [{"Subnet": "10.99.0.0/24", "Gateway": "10.99.0.9"}]
    assert sorted(item["Name"] for item in found["Containers"].values()) == ["one-web-1", "two-api-1"]
    assert f"{address}/24" in [item["IPv4Address"] for item in found["Containers"].values()]
    refused = devenv("network", "rm", "meeting", code=1).stderr
    assert "in use by 2 containers" in refused
    devenv("down")
    devenv("down", cwd=other)
    # It is nobody's, so no `down` takes it along.
    assert devenv("network", "rm", created[:12]).stdout.strip() == created[:12]
    assert devenv("network", "ls", "-q").stdout == ""


@pytest.mark.parametrize("anyone", ["dvplain"], indirect=True)
def test_an_ordinary_users_project_joins_it_alone(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: one
        services:
          web: {image: "host:", command: [sleep, infinity], stop_signal: SIGKILL, dns: 127.0.0.1, networks: [meet]}
          api: {image: "host:", command: [sleep, infinity], stop_signal: SIGKILL, dns: 127.0.0.1, networks: [meet]}
        networks: {meet: {external: true, name: meeting}}
        """
    )
    anyone("network", "create", "meeting")
    assert "of this project alone" in anyone("up", "-d", "--wait").stderr
    assert resolves(anyone, "web", "api")
    address = anyone.inside("api", "hostname -I").strip()
    # Refused, and so reached.
    assert "refused" in anyone.inside("web", f"bash -c ': </dev/tcp/{address}/9' 2>&1 || true")
    anyone("down")
    anyone("network", "rm", "meeting")


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_listing_and_pruning(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(spec("one", "web"))
    anyone("up", "-d")
    anyone("network", "create", "--label", "team=blue", "--internal", "--ipv6", "quiet")
    listed = anyone("network", "ls").stdout.splitlines()
    assert listed[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [line.split()[1:] for line in listed[1:]] == [
        ["one_default", "bridge", "local"],
        ["quiet", "bridge", "local"],
    ]
    assert anyone("network", "ls", "--filter", "label=team=blue", "--format", "{{.Name}}").stdout == "quiet\n"
    assert anyone("network", "ls", "--filter", "dangling=true", "--format", "{{.Name}}").stdout == "quiet\n"
    rows = [json.loads(line) for line in anyone("network", "ls", "--format", "json").stdout.splitlines()]
    assert [(row["Project"], row["IPv6"], row["Internal"]) for row in rows] == [
        ("one", "false", "false"),
        ("", "true", "true"),
    ]
    assert "no network `nowhere`" in anyone("network", "inspect", "nowhere", code=1).stderr
    assert "no terminal" in anyone("network", "prune", code=2).stderr
    assert anyone("network", "prune", "-f").stdout == "Deleted Networks:\nquiet\n\n"
    assert anyone("network", "ls", "--format", "{{.Name}}").stdout == "one_default\n"
    assert "in use" in anyone("network", "rm", "one_default", code=1).stderr


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_a_running_container_is_connected_and_disconnected(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        """
        name: one
        services:
          web: {image: "host:", command: [sleep, infinity], stop_signal: SIGKILL, dns: 127.0.0.1, networks: [front]}
          db: {image: "host:", command: [sleep, infinity], stop_signal: SIGKILL, dns: 127.0.0.1, networks: [back]}
        networks: {front: {}, back: {internal: true}}
        """
    )
    anyone("up", "-d", "--wait")
    assert not resolves(anyone, "web", "db")
    before = routes(anyone, "web")
    anyone("network", "connect", "--alias", "frontend", "one_back", "one-web-1")
    assert "in network `one_back` already" in anyone("network", "connect", "one_back", "one-web-1", code=1).stderr
    assert resolves(anyone, "web", "db")
    assert resolves(anyone, "db", "frontend")
    assert anyone.inside("web", "ls /sys/class/net").split() == ["eth0", "eth1", "lo"]
    # An internal network leads nowhere, so the way out stays.
    assert routes(anyone, "web") == before != ""
    # It stays so over a restart, and its interfaces keep their names.
    anyone("restart", "web")
    assert resolves(anyone, "web", "db")
    assert routes(anyone, "web") == before
    anyone("network", "disconnect", "one_front", "one-web-1")
    assert anyone.inside("web", "ls /sys/class/net").split() == ["eth1", "lo"]
    assert routes(anyone, "web") == ""
    assert "is not in network" in anyone("network", "disconnect", "one_front", "one-web-1", code=1).stderr
    anyone("network", "connect", "one_front", "one-web-1")
    assert routes(anyone, "web").split()[:3] == before.split()[:3]
    # A new container is what the spec says.
    anyone("up", "-d", "--force-recreate", "web")
    assert not resolves(anyone, "web", "db")


def test_addresses_of_a_connection(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(spec("one", "web"))
    devenv("up", "-d", "--wait")
    devenv("network", "create", "--subnet", "10.98.0.0/24", "--ip-range", "10.98.0.128/25", "more")
    connect = ("network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=wan0", "more", "one-web-1")
    assert "outside" in devenv(*connect, "--ip", "10.97.0.1", code=1).stderr
    devenv(*connect, "--ip", "10.98.0.77", "--gw-priority", "5")
    assert "10.98.0.77/24" in devenv.inside("web", "ip -o addr show wan0")
    # The one with the highest priority leads to the outside.
    assert "via 10.98.0.128 dev wan0" in routes(devenv, "web")
    devenv("network", "disconnect", "more", "one-web-1")
    assert "dev eth0" in routes(devenv, "web")
    devenv("network", "rm", "more")


def test_a_stopped_container_is_connected_for_its_next_start(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(spec("one", "web"))
    devenv("create")
    devenv("network", "create", "more")
    devenv("network", "connect", "more", "one-web-1")
    devenv("start", "web")
    assert devenv.inside("web", "ls /sys/class/net").split() == ["eth0", "eth1", "lo"]
    devenv("down")
    devenv("network", "rm", "more")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--driver", "overlay"), "overlay"),
        (("--subnet", "10.9.0.0/24", "--gateway", "10.8.0.1"), "in no `--subnet`"),
        (("--subnet", "10.9.0.300/24"), "10.9.0.300/24"),
        (("-o", "com.docker.network.driver.mtu=1"), "MTU"),
        (("--ipam-driver", "dhcp"), "plugins"),
    ],
)
def test_networks_that_can_not_be(devenv: runner.Devenv, arguments: tuple[str, ...], problem: str) -> None:
    said = devenv("network", "create", *arguments, "bad", code=None)
    assert said.returncode in {1, 2}
    assert problem in said.stderr
    assert devenv("network", "ls", "-q").stdout == ""
