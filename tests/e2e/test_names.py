"""Names as programs see them: glibc's resolver, dig, one written against DNS alone, a static one."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
from collections.abc import Iterator

import dnslib
import pytest

from tests.support import engine, netlab, projects, runner, upstream
from tests.support.polling import eventually

pytestmark = pytest.mark.root

# A resolver that reads neither /etc/hosts nor nsswitch.conf, as Go's and nginx' do.
RESOLVE = """
    import random, socket, struct, sys

    for name in sys.argv[2:]:
        number = random.randrange(65536)
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        server = open("/etc/resolv.conf").read().split("nameserver ")[1].split()[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.connect((server, 53))
            kind = {"A": 1, "AAAA": 28}[sys.argv[1]]
            client.send(struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">2H", kind, 1))
            data = client.recv(4096)
        assert data[:2] == struct.pack(">H", number)
        print(name, data[3] & 15, int.from_bytes(data[6:8], "big"))
"""


def idle(*services: str, rest: str = "") -> dict[str, str]:
    """A project of services that sleep; each is a name and, after a space, more attributes in flow style."""
    lines = ["name: dns", "services:"]
    for service in services:
        name, _, more = service.partition(" ")
        lines.append(
            f"  {name}: {{image: 'host:', command: [sleep, infinity], stop_signal: SIGKILL, volumes: ['.:/p:ro']"
            f"{', ' * bool(more)}{more}}}"
        )
    return {"devenv.yaml": "\n".join([*lines, rest, ""]), "resolve.py": RESOLVE}


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Iterator[upstream.Upstream]:
    """The machine's own resolver, on its loopback as systemd-resolved is."""
    server = upstream.Upstream()
    with upstream.resolv_conf("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n", tmp_path):
        yield server
    server.close()


def ask(devenv: runner.Devenv, service: str, kind: str, *names: str) -> list[str]:
    """Name, code and number of answers, by DNS alone."""
    return devenv.inside(service, f"python3 -S /p/resolve.py {kind} {' '.join(names)}").splitlines()


def test_every_kind_of_program_finds_the_others_and_the_outside(
    anyone: runner.Devenv, project: projects.Project, machine: upstream.Upstream
) -> None:
    project.write(idle("web links: ['db:store']", "db networks: {default: {aliases: [database]}}"))
    anyone("up", "-d", "--wait")
    assert anyone.inside("web", "cat /etc/resolv.conf").splitlines() == [
        "nameserver 127.0.0.11",
        "search corp.example",
        "options ndots:0",
    ]
    address = anyone.inside("db", "hostname -I").split()[0]
    names = ("db", "database", "store", "dns-db-1", "dns-db-1.dns_default")
    assert ask(anyone, "web", "A", *names) == [f"{name} 0 1" for name in names]
    assert ask(anyone, "web", "AAAA", "db", "nobody") == ["db 0 0", "nobody 3 0"]
    assert {line.split()[0] for line in anyone.inside("web", "getent ahosts db database store").splitlines()} == {
        address
    }
    assert anyone.inside("web", f"getent hosts {address}").split()[1] == "dns-db-1.dns_default"
    assert anyone.inside("web", "getent ahostsv4 www.example").split()[0] == "192.0.2.1"
    # By the machine's search list.
    assert anyone.inside("web", "getent ahostsv4 intranet").split()[0] == "192.0.2.1"
    assert ("udp", "intranet.corp.example.") in machine.asked
    assert not [name for _, name in machine.asked if name.startswith(("db.", "web.", "database."))]
    if shutil.which("dig"):
        assert anyone.inside("web", "dig +short db") == address
        assert anyone.inside("web", f"dig +short +tcp -x {address}") == "dns-db-1.dns_default."
        assert len(anyone.inside("web", "dig +short +notcp +ignore +edns=0 large.example").split()) == 0
        assert len(anyone.inside("web", "dig +short large.example").split()) == 60


def test_a_static_program_resolves_as_well(devenv: runner.Devenv, project: projects.Project) -> None:
    """One that has no nsswitch.conf: busybox, which asks by itself."""
    if not os.path.exists("/bin/busybox"):
        pytest.skip("needs busybox")
    project.write(idle("web dns: 127.0.0.1", "db"))
    devenv("up", "-d", "--wait")
    address = devenv.inside("db", "hostname -I").split()[0]
    assert address in devenv.inside("web", "busybox nslookup db 127.0.0.11")


def test_replicas_come_and_go_and_take_turns(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(idle("web", "api"))
    devenv("up", "-d", "--wait", "--scale", "api=3")
    assert ask(devenv, "web", "A", "api") == ["api 0 3"]
    web = pid_of(devenv, "web")
    assert len({addresses(web, "api")[0] for _ in range(6)}) == 3
    devenv("up", "-d", "--scale", "api=2")
    eventually(lambda: ask(devenv, "web", "A", "api") == ["api 0 2"])
    # A replica that dies by itself is nobody's address any more.
    devenv("kill", "api")
    eventually(lambda: ask(devenv, "web", "A", "api") == ["api 3 0"])


def pid_of(devenv: runner.Devenv, service: str) -> int:
    for path in pathlib.Path(devenv.data, "containers").glob("[!.]*/container.json"):
        if json.loads(path.read_text())["service"] == service:
            return int(json.loads((path.parent / "state.json").read_text())["pid"])
    raise AssertionError(service)


def addresses(pid: int, name: str) -> list[str]:
    """With no command of devenv's involved."""

    def ask() -> list[str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.connect(("127.0.0.11", 53))
            client.send(dnslib.DNSRecord.question(name).pack())
            return [str(record.rdata) for record in dnslib.DNSRecord.parse(client.recv(4096)).rr]

    return netlab.inside(pid, ask)


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_names_live_on_without_a_supervisor(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(idle("web", "api", "db"))
    anyone("up", "-d", "--wait")
    web, db = pid_of(anyone, "web"), pid_of(anyone, "db")
    asleep = [pid for role in ("zygote", "supervisor", "monitor") if (pid := engine.find(anyone, role))]
    try:
        for pid in asleep:
            os.kill(pid, signal.SIGSTOP)
        assert len(addresses(web, "api")) == 1
        # One that ends meanwhile is no longer answered for, though nobody is there to say so.
        os.kill(db, signal.SIGKILL)
        eventually(lambda: not addresses(web, "db"))
    finally:
        for pid in asleep:
            os.kill(pid, signal.SIGCONT)


def test_a_killed_name_server_is_followed_by_another(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(idle("web", "api"))
    devenv("up", "-d", "--wait")
    engine.kill(*(engine.find(devenv, role) for role in ("proxy", "supervisor")))
    eventually(lambda: ask(devenv, "web", "A", "api") == ["api 0 1"])


def test_without_a_network_of_its_own_names_are_the_machines(
    devenv: runner.Devenv, project: projects.Project, machine: upstream.Upstream
) -> None:
    project.write(
        idle("web", "db", "host network_mode: host", "none network_mode: none", "mate network_mode: 'service:web'")
    )
    devenv("up", "-d", "--wait")
    assert devenv.inside("host", "cat /etc/resolv.conf").splitlines()[0] == "nameserver 127.0.0.53"
    assert devenv.inside("host", "getent ahostsv4 www.example").split()[0] == "192.0.2.1"
    # Whoever shares a network shares its names.
    assert ask(devenv, "mate", "A", "db", "web") == ["db 0 1", "web 0 1"]
    assert devenv.inside("none", "getent hosts localhost").split()[0] in {"::1", "127.0.0.1"}


def test_an_internal_network_knows_its_own_names_alone(
    devenv: runner.Devenv, project: projects.Project, machine: upstream.Upstream
) -> None:
    project.write(idle("web networks: [back]", "db networks: [back]", rest="networks: {back: {internal: true}}"))
    devenv("up", "-d", "--wait")
    assert ask(devenv, "web", "A", "db", "www.example") == ["db 0 1", "www.example 3 0"]
    assert machine.asked == []


def test_dns_attributes(devenv: runner.Devenv, project: projects.Project, machine: upstream.Upstream) -> None:
    project.write(
        idle("web dns: 127.0.0.1, dns_search: [a.example, b.example], dns_opt: ['ndots:2', 'timeout:1']", "db")
    )
    devenv("up", "-d", "--wait")
    assert devenv.inside("web", "cat /etc/resolv.conf").splitlines() == [
        "nameserver 127.0.0.11",
        "search a.example b.example",
        "options ndots:2 timeout:1",
    ]
    # Asked from inside, where nobody listens.
    assert ask(devenv, "web", "A", "www.example", "db") == ["www.example 2 0", "db 0 1"]
    assert machine.asked == []


def test_ipv6_and_ports_by_name(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(
        idle(
            "web dns: 127.0.0.1",
            "db expose: ['5432'], ports: [{target: 8080, name: admin, protocol: tcp}]",
            rest="networks: {default: {enable_ipv6: true}}",
        )
    )
    devenv("up", "-d", "--wait")
    assert ask(devenv, "web", "AAAA", "db") == ["db 0 1"]
    found = devenv.inside("web", "getent ahostsv6 db").split()[0]
    assert found.startswith("fd")
    assert devenv.inside("web", f"getent hosts {found}").split()[1] == "dns-db-1.dns_default"
    if shutil.which("dig"):
        assert devenv.inside("web", "dig +short SRV _admin._tcp.db") == "0 1 8080 dns-db-1.dns_default."
        assert devenv.inside("web", "dig +short SRV _5432._tcp.db") == "0 1 5432 dns-db-1.dns_default."


def test_names_across_projects_in_a_common_network(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(idle("web dns: 127.0.0.1, networks: [shared]", rest="networks: {shared: {name: meeting-place}}"))
    links = "external_links: ['dns-web-1:Front', 'dns-gone-1:gone']"
    files = idle(
        f"api dns: 127.0.0.1, networks: [there], {links}",
        rest="networks: {there: {external: true, name: meeting-place}}",
    )
    other = projects.Project(project.path.parent / "q").write(files)
    devenv("up", "-d", "--wait")
    devenv("up", "-d", "--wait", cwd=other)
    eventually(lambda: ask(devenv, "web", "A", "api") == ["api 0 1"])
    answers = devenv.inside("api", "python3 -S /p/resolve.py A web front gone", cwd=other).splitlines()
    assert answers == ["web 0 1", "front 0 1", "gone 3 0"]
    assert ask(devenv, "web", "A", "front") == ["front 2 0"]  # asked of others, whom nobody answers for
    devenv("down", cwd=other)
