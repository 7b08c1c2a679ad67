"""Names, networks and ports: who finds whom, who reaches whom, and what answers on the host."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import engine, netlab, projects, runner
from tests.support.polling import eventually

pytestmark = pytest.mark.root

# Answers on TCP and UDP 80 with the service's name; `ask` says what another answers.
SERVE = """
    import socket, sys, threading

    tcp = socket.create_server(("", 80))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", 80))

    def datagrams():
        while True:
            _, who = udp.recvfrom(100)
            udp.sendto(sys.argv[1].encode(), who)

    threading.Thread(target=datagrams, daemon=True).start()
    while True:
        client, _ = tcp.accept()
        with client:
            client.sendall(sys.argv[1].encode())
"""
ASK = """
    import socket, sys

    for name in sys.argv[1:]:
        try:
            with socket.create_connection((name, 80), timeout=0.5) as server:
                print(server.recv(100).decode())
        except OSError as exc:
            print("no")
"""


def serving(*services: str, rest: str = "") -> dict[str, str]:
    """A project of services that answer; each is a name and, after a space, more attributes in flow style."""
    lines = ["name: net", "services:"]
    for service in services:
        name, _, more = service.partition(" ")
        lines += [
            f"  {name}:",
            f'    {{image: "host:", command: [python3, -S, /p/serve.py, {name}], stop_signal: SIGKILL, dns: 127.0.0.1, '
            f'volumes: [".:/p:ro"], healthcheck: {{test: [CMD, python3, -S, /p/ask.py, localhost], interval: 0.1s}}'
            f"{', ' * bool(more)}{more}}}",
        ]
    return {"devenv.yaml": "\n".join([*lines, rest, ""]), "serve.py": SERVE, "ask.py": ASK}


def ask(devenv: runner.Devenv, service: str, *names: str) -> list[str]:
    """What services answer to one of them."""
    return devenv.inside(service, f"python3 -S /p/ask.py {' '.join(names)}").split()


def answer(port: int, host: str = "127.0.0.1") -> str:
    """On the host."""
    with socket.create_connection((host, port), timeout=2) as server:
        return server.recv(100).decode()


def datagram(port: int, host: str = "127.0.0.1") -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(b"?", (host, port))
        return client.recv(100).decode()


def refused(port: int, host: str = "127.0.0.1") -> bool:
    try:
        answer(port, host)
    except OSError:
        return True
    return False


# -- names ------------------------------------------------------------------------------------------------------------


def test_every_name_is_found_from_every_service(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        serving(
            "api networks: {default: {aliases: [backend, api.example]}}",
            "db container_name: the-database, hostname: dbhost",
            "web links: ['db:store'], extra_hosts: ['far=192.0.2.9', 'here=host-gateway']",
        )
    )
    anyone("up", "-d", "--wait")
    assert ask(anyone, "web", "api", "backend", "api.example", "net-api-1") == ["api"] * 4
    assert ask(anyone, "web", "db", "the-database", "store") == ["db"] * 3
    assert ask(anyone, "db", "web", "net-web-1", "api", "db", "dbhost", "localhost") == [
        "web",
        "web",
        "api",
        *["db"] * 3,
    ]
    # An alias of a link is its own service's alone.
    assert ask(anyone, "api", "store", "no-such-name") == ["no", "no"]
    assert anyone.inside("web", "getent ahostsv4 far").split()[0] == "192.0.2.9"
    gateway = anyone.inside("web", "getent ahostsv4 host.docker.internal").split()[0]
    assert anyone.inside("web", "getent ahostsv4 here").split()[0] == gateway


def test_replicas_that_join_later_are_found_at_once(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("api", "web"))
    anyone("up", "-d", "--wait")
    addresses = "getent ahostsv4 api | cut -d' ' -f1 | sort -u"
    assert len(anyone.inside("web", addresses).split()) == 1
    anyone("up", "-d", "--wait", "--scale", "api=3")
    eventually(lambda: len(anyone.inside("web", addresses).split()) == 3)
    assert ask(anyone, "web", "net-api-1", "net-api-2", "net-api-3") == ["api"] * 3
    assert anyone("exec", "-T", "--index", "3", "api", "python3", "-S", "/p/ask.py", "web").stdout == "web\n"
    anyone("up", "-d", "--scale", "api=1")
    eventually(lambda: len(anyone.inside("web", addresses).split()) == 1)
    assert ask(anyone, "web", "api", "net-api-3") == ["api", "no"]


def test_a_service_that_comes_back_has_its_address_again(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("api", "web"))
    devenv("up", "-d", "--wait")
    before = devenv.inside("web", "getent ahostsv4 api")
    devenv("restart", "api")
    devenv("up", "-d", "--wait")
    assert devenv.inside("web", "getent ahostsv4 api") == before
    assert ask(devenv, "web", "api") == ["api"]


# -- networks ---------------------------------------------------------------------------------------------------------


def test_only_services_with_a_common_network_meet(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        serving(
            "web networks: [front]",
            "api networks: [front, back]",
            "db networks: [back]",
            rest="networks: {front: {}, back: {internal: true}}",
        )
    )
    anyone("up", "-d", "--wait")
    assert anyone.inside("api", "ls /sys/class/net").split() == ["eth0", "eth1", "lo"]
    assert ask(anyone, "api", "web", "db") == ["web", "db"]
    assert ask(anyone, "web", "api", "db") == ["api", "no"]
    assert ask(anyone, "db", "api", "web") == ["api", "no"]
    # Nor by an address.
    addresses = {name: anyone.inside(name, "hostname -I").split() for name in ("web", "db")}
    assert ask(anyone, "web", *addresses["db"]) == ["no"]
    assert ask(anyone, "db", *addresses["web"]) == ["no"]
    assert ask(anyone, "api", *addresses["web"], *addresses["db"]) == ["web", "db"]
    # An internal network leads nowhere.
    assert "default" not in anyone.inside("db", "ip route")
    assert "default" in anyone.inside("web", "ip route")
    assert "default" in anyone.inside("api", "ip route")


def test_addresses_that_are_asked_for(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        serving(
            "web networks: {own: {ipv4_address: 172.29.7.77, ipv6_address: 'fd00:7::77', "
            "mac_address: '02-00-00-00-00-77'}}",
            "api networks: {own: {interface_name: wan0}}",
            rest="networks: {own: {enable_ipv6: true, ipam: {config: "
            "[{subnet: 172.29.7.0/24, gateway: 172.29.7.254, ip_range: 172.29.7.128/25}, {subnet: 'fd00:7::/64'}]}}}",
        )
    )
    anyone("up", "-d", "--wait")
    assert "172.29.7.77" in anyone.inside("web", "hostname -I").split()
    assert anyone.inside("web", "cat /sys/class/net/eth0/address") == "02:00:00:00:00:77"
    assert "fd00:7::77" in anyone.inside("web", "ip -6 -o address show dev eth0")
    assert re.search(r"default via 172\.29\.7\.254 ", anyone.inside("web", "ip route"))
    assert anyone.inside("api", "ls /sys/class/net").split() == ["lo", "wan0"]
    number = int(anyone.inside("api", "hostname -I").split()[0].rpartition(".")[2])
    assert number >= 128
    assert ask(anyone, "api", "172.29.7.77", "web") == ["web", "web"]


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ("networks: {own: {mac_address: '02:0:0:0:0:77'}}", "six pairs"),
        ("networks: {own: {mac_address: '01:00:00:00:00:77'}}", "multicast"),
        ("networks: {own: {ipv4_address: 172.29.8.1}}", "172.29.7.0/24"),
        ("networks: {own: {ipv4_address: web}}", "`web`"),
        ("networks: {own: {ipv6_address: 'fd00::1'}}", "enable_ipv6"),
        ("networks: {own: {ipv4_address: 172.29.7.1}}", "172.29.7.1"),
    ],
)
def test_addresses_that_can_not_be(
    devenv: runner.Devenv, project: projects.Project, attributes: str, problem: str
) -> None:
    networks = "networks: {own: {ipam: {config: [{subnet: 172.29.7.0/24}]}}}"
    project.write(serving(f"web {attributes}", rest=networks))
    said = devenv("up", "-d", code=None)
    assert said.returncode in {1, 2}
    assert problem in said.stderr
    assert "Invalid argument" not in said.stderr


def test_link_local_addresses_and_options_that_say_nothing(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("web networks: {default: {link_local_ips: [169.254.34.1, 'fe80::34']}}", "api"))
    with (project / "devenv.yaml").open("a") as file:
        file.write("\nnetworks: {default: {driver_opts: {com.example.odd: x}, ipam: {options: {some: y}}}}\n")
    said = anyone("up", "-d", "--wait").stderr
    assert "`com.example.odd`, `ipam.options.some` is understood and has no effect" in said
    addresses = anyone.inside("web", "ip -brief address show dev eth0")
    assert "169.254.34.1/16" in addresses
    assert "fe80::34/64" in addresses
    project.edit(r"169\.254\.34\.1", "10.1.2.3")
    assert "`10.1.2.3` is none of 169.254.0.0/16" in anyone("up", "-d", code=2).stderr


def test_networks_of_two_projects_do_not_meet(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("web"))
    other = projects.Project(project.path.parent / "q").write(serving("api"))
    devenv("up", "-d", "--wait")
    devenv("up", "-d", "--wait", cwd=other)
    address = devenv.inside("web", "hostname -I").strip()
    assert devenv.inside("api", f"python3 -S /p/ask.py web net-web-1 {address}", cwd=other).split() == ["no"] * 3


def test_an_external_network_joins_two_projects(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("web networks: [shared]", rest="networks: {shared: {name: meeting-place}}"))
    files = serving("api networks: [there]", rest="networks: {there: {external: true, name: meeting-place}}")
    other = projects.Project(project.path.parent / "q").write(files)
    assert "meeting-place" in devenv("up", "-d", cwd=other, code=1).stderr
    devenv("up", "-d", "--wait")
    devenv("up", "-d", "--wait", cwd=other)
    address = devenv.inside("web", "hostname -I").strip()
    assert devenv.inside("api", f"python3 -S /p/ask.py {address}", cwd=other) == "web"
    devenv("down", cwd=other)
    assert answer_of(devenv, "web") == "web"


def answer_of(devenv: runner.Devenv, service: str) -> str:
    return ask(devenv, service, "localhost")[0]


# -- outside ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("anyone", "helper"), [("root", ""), ("dvplain", "pasta"), ("dvplain", "slirp4netns")], indirect=["anyone"]
)
def test_a_service_that_asks_for_it_reaches_the_machine(
    anyone: runner.Devenv, project: projects.Project, helper: str
) -> None:
    """And what was there before goes on; as root no helper is needed."""
    if helper:
        tools = project.path.parent / "tools"
        tools.mkdir()
        found = shutil.which(helper)
        if found is None:
            pytest.skip(f"needs the program `{helper}`")
        os.symlink(found, tools / helper)
        anyone.env["PATH"] = f"{tools}:/bin" if not os.path.islink("/bin") else str(tools)
    project.write(serving("web"))
    anyone("up", "-d", "--wait")
    project.write(serving("web", "api extra_hosts: ['here=host-gateway']"))
    anyone("up", "-d", "--wait")
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        script = f"import socket; socket.create_connection(('here', {port}), 10).sendall(b'hello')"
        anyone("exec", "-T", "api", "python3", "-c", script)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(9) == b"hello"
    assert ask(anyone, "web", "api") == ["api"]


@pytest.mark.parametrize("anyone", ["dvrange", "dvplain"], indirect=True)
def test_without_a_helper_there_is_a_note(anyone: runner.Devenv, project: projects.Project) -> None:
    """Services reach each other all the same."""
    tools = project.path.parent / "tools"
    tools.mkdir()
    for name in ("newuidmap", "newgidmap"):
        found = shutil.which(name)
        if found:
            os.symlink(found, tools / name)
    anyone.env["PATH"] = str(tools)
    project.write(serving("web", "api"))
    said = anyone("up", "-d", "--wait").stderr
    assert "pasta" in said
    assert "slirp4netns" in said
    assert ask(anyone, "web", "api") == ["api"]


# -- ports ------------------------------------------------------------------------------------------------------------


def test_ports_in_every_form_answer_on_the_host(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(
        serving(
            "short ports: ['18080:80']",
            "local ports: ['127.0.0.1:18081:80', '[::1]:18081:80']",
            "any ports: [80]",
            "range ports: ['18090-18092:80']",
            "many ports: ['18100-18101:80-81']",
            "datagrams ports: ['18080:80/udp']",
            "long ports: [{target: 80, published: 18085, host_ip: 127.0.0.1, protocol: tcp, name: http}]",
        )
    )
    anyone("up", "-d", "--wait")
    assert answer(18080) == answer(18080, "::1") == answer(18080, "198.51.100.2") == "short"
    assert answer(18081) == answer(18081, "::1") == "local"
    assert refused(18081, "198.51.100.2")
    assert answer(18085) == "long"
    assert datagram(18080) == datagram(18080, "::1") == datagram(18080, "198.51.100.2") == "datagrams"
    assert answer(18100) == "many"
    chosen = int(anyone("port", "any", "80").stdout.rpartition(":")[2])
    assert answer(chosen) == "any"
    first = int(anyone("port", "range", "80").stdout.rpartition(":")[2])
    assert 18090 <= first <= 18092
    assert answer(first) == "range"
    anyone("restart", "any")
    anyone("up", "-d", "--wait")
    # A port that was chosen stays.
    assert answer(chosen) == "any"
    anyone("stop")
    assert refused(18080)
    assert refused(chosen)


def test_each_replica_takes_a_port_of_the_range(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("web ports: ['18110-18112:80'], deploy: {replicas: 3}"))
    devenv("up", "-d", "--wait")
    found = {devenv("port", "--index", str(index), "web", "80").stdout.strip() for index in (1, 2, 3)}
    assert found == {f"0.0.0.0:{port}" for port in (18110, 18111, 18112)}
    assert [answer(port) for port in (18110, 18111, 18112)] == ["web"] * 3
    said = devenv("up", "-d", "--scale", "web=4", code=1).stderr
    assert "18110-18112" in said
    assert "range" in said


def test_a_taken_port_names_another_project(anyone: runner.Devenv, project: projects.Project) -> None:
    other = projects.Project(project.path.parent / "q", project.uid).write(serving("first ports: ['18120:80']"))
    anyone("up", "-d", "--wait", cwd=other)
    project.write(serving("second ports: ['18120:80']", "third"))
    said = anyone("up", "-d", code=1).stderr
    assert "18120" in said
    assert "first" in said
    assert str(other.path) in said
    assert answer(18120) == "first"
    assert anyone.ps()["net-second-1"]["State"] != "running"
    # Once it is free the same `up` works.
    anyone("down", cwd=other)
    anyone("up", "-d", "--wait")
    assert answer(18120) == "second"


def test_a_taken_port_names_another_process(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("web ports: ['18130:80']"))
    with socket.create_server(("", 18130)):
        said = anyone("up", "-d", code=1).stderr
    assert "`0.0.0.0:18130`" in said or "`18130/tcp`" in said
    if anyone.user is None:
        # Other users' processes are for root to see.
        assert f"(pid {os.getpid()})" in said
    assert "Traceback" not in said
    anyone("up", "-d", "--wait")
    assert answer(18130) == "web"


def test_two_services_that_want_one_port_are_told_before_anything_starts(
    devenv: runner.Devenv, project: projects.Project
) -> None:
    project.write(serving("one ports: ['18140:80']", "two ports: ['18140:81']"))
    said = devenv("up", "-d", code=None).stderr
    assert "18140" in said
    assert "one" in said
    assert "two" in said
    assert not [row for row in devenv.ps().values() if row["State"] == "running"]


@pytest.mark.parametrize("anyone", ["dvrange", "dvplain"], indirect=True)
def test_a_low_port_tells_a_user_what_to_do(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("web ports: ['81:80']"))
    said = anyone("up", "-d", code=None).stderr
    assert "ip_unprivileged_port_start" in said
    assert "Traceback" not in said


def test_a_server_on_its_own_localhost_is_reached(anyone: runner.Devenv, project: projects.Project) -> None:
    files = serving("web ports: ['18150:80']")
    project.write({**files, "serve.py": files["serve.py"].replace('""', '"127.0.0.1"')})
    anyone("up", "-d", "--wait")
    assert answer(18150) == "web"


def test_a_port_is_kept_over_a_new_container(devenv: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("web ports: ['18160:80'], environment: {A: '1'}"))
    devenv("up", "-d", "--wait")
    project.edit("A: '1'", "A: '2'")
    devenv("up", "-d", "--wait")
    assert answer(18160) == "web"
    project.edit("18160", "18161")
    devenv("up", "-d", "--wait")
    assert answer(18161) == "web"
    assert refused(18160)


# -- ports: auto ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyone", ["root", "dvplain"], indirect=True)
def test_two_worktrees_come_up_side_by_side(anyone: runner.Devenv, project: projects.Project) -> None:
    files = serving("web ports: ['18170:80']", "api environment: {PUBLIC: '${DEVENV_PORT_web_80}'}")
    files["devenv.yaml"] = f"ports: auto\n{files['devenv.yaml']}"
    project.write(files)
    other = projects.Project(project.path.parent / "q", project.uid).write(files)
    assert "18170" not in anyone("up", "-d", "--wait").stderr
    said = anyone("up", "-d", "--wait", cwd=other).stderr
    second = int(anyone("port", "web", "80", cwd=other).stdout.rpartition(":")[2])
    assert f"port 18170 is not free for this checkout, 80/tcp is published at {second}" in said
    assert answer(18170) == answer(second) == "web"
    assert anyone.inside("api", "echo $PUBLIC", cwd=other) == str(second)
    assert anyone.inside("web", "echo $DEVENV_PORT_web_80") == "18170"
    # Nothing changed, so nothing is made anew; and each keeps its port, whoever comes first.
    before = anyone("ps", "-q", cwd=other).stdout
    anyone("up", "-d", "--wait", cwd=other)
    assert anyone("ps", "-q", cwd=other).stdout == before
    anyone("down")
    anyone("down", cwd=other)
    anyone("up", "-d", "--wait", cwd=other)
    assert answer(second) == "web"
    anyone("up", "-d", "--wait")
    assert answer(18170) == "web"


def test_a_low_port_is_replaced_for_a_user_who_may_not_have_it(devenv_as: runner.Maker) -> None:
    devenv = devenv_as("dvplain")
    own = projects.Project(pathlib.Path(devenv.folder, "p"), devenv.user.uid if devenv.user else None)
    own.write(serving("web ports: ['82:80']"))
    devenv("up", "-d", "--wait", cwd=own, env={"DEVENV_PORTS": "auto"})
    port = int(devenv("port", "web", "80", cwd=own, env={"DEVENV_PORTS": "auto"}).stdout.rpartition(":")[2])
    assert port >= 20000
    assert answer(port) == "web"


# -- by the kernel ----------------------------------------------------------------------------------------------------

WHO = """
    import socket

    server = socket.create_server(("", 80))
    while True:
        client, who = server.accept()
        with client:
            client.sendall(who[0].encode())
"""


@pytest.fixture
def neighbour() -> Iterator[netlab.Container]:
    """A machine beside this one, at 203.0.113.2, by way of which there is a default route."""
    box = netlab.Container(1)
    for command in (
        f"link add near type veth peer name far netns {box.pid}",
        "addr add 203.0.113.1/24 dev near",
        "link set near up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    box.shell("ip link set lo up; ip addr add 203.0.113.2/24 dev far; ip link set far up")
    subprocess.run("ip route add default via 203.0.113.2 metric 500".split(), check=True)
    yield box
    subprocess.run("ip link del near".split(), check=True)
    box.end()


def test_the_kernel_carries_a_port_so_that_clients_are_seen(
    devenv: runner.Devenv, project: projects.Project, neighbour: netlab.Container
) -> None:
    files = serving("web ports: [{target: 80, published: 18180, x-kernel: true}]")
    project.write({**files, "serve.py": WHO})
    devenv("up", "-d", "--wait")
    seen = lambda: neighbour.run(lambda: answer(18180, "203.0.113.1"))  # noqa: E731
    assert seen() == "203.0.113.2"
    own = devenv.inside("web", "hostname -I").strip()
    # From this machine it is the proxy's, as ever.
    assert answer(18180) == own
    # It is carried again after a restart, and after the supervisor came back.
    devenv("restart", "web")
    devenv("up", "-d", "--wait")
    assert seen() == "203.0.113.2"
    engine.kill(engine.find(devenv, "supervisor"))
    devenv("up", "-d", "--wait")
    assert seen() == "203.0.113.2"
    devenv("down")
    with pytest.raises(OSError, match=r"refused|unreachable"):
        seen()


@pytest.mark.parametrize("anyone", ["dvplain"], indirect=True)
def test_without_root_the_proxy_carries_it(anyone: runner.Devenv, project: projects.Project) -> None:
    project.write(serving("web ports: [{target: 80, published: 18181, x-kernel: true}]"))
    assert "`x-kernel` needs root" in anyone("up", "-d", "--wait").stderr
    assert answer(18181) == "web"
