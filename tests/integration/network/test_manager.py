"""Networks for real: containers that reach each other, and those that must not."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

from devenv import errors
from devenv.network import bridge, drivers, manager, portproxy_client, types
from devenv.util import paths
from tests.support import netlab

Make = Callable[[], netlab.Container]
Project = Callable[[str], manager.NetworkManager]


def test_containers_of_a_network_reach_each_other_and_the_gateway(project: Project, container: Make) -> None:
    shop = project("shop")
    network = shop.ensure(netlab.default(enable_ipv6=True))
    one, two = container(), container()
    (first,), (second,) = netlab.join(shop, one), netlab.join(shop, two)
    assert first.ipv4 != second.ipv4
    for address in (second.ipv4, second.ipv6, first.ipv4, "127.0.0.1", *network.gateways):
        assert one.run(lambda address=address: netlab.reaches(address)), address


def test_a_restarted_container_keeps_its_addresses(project: Project, container: Make) -> None:
    shop = project("shop")
    shop.ensure(netlab.default())
    one, two = container(), container()
    before = netlab.join(shop, one)
    assert netlab.join(shop, one) == before
    again = shop.attach(one.id, two.pid, [types.EndpointSpec(network="shop_default")])
    assert again == before
    assert two.run(lambda: netlab.reaches(before[0].gateway))


def test_the_last_life_of_a_container_is_silent_at_once(project: Project, container: Make) -> None:
    """Its namespace lingers after its death, and would refuse what the next one is asked for."""
    shop = project("shop")
    shop.ensure(netlab.default())
    first, second, asking = container(), container(), container()
    netlab.join(shop, asking)
    (place,) = netlab.join(shop, first)
    assert asking.run(lambda: netlab.reaches(place.ipv4))
    # The first one's namespace is still there, address and all.
    shop.attach(first.id, second.pid, [types.EndpointSpec(network="shop_default")])
    second.run(lambda: netlab.shell(f"ip address del {place.ipv4}/{place.prefix} dev {place.interface}"))
    assert not asking.run(lambda: netlab.reaches(place.ipv4))


def test_an_address_is_free_again_when_its_container_is_removed(project: Project, container: Make) -> None:
    shop = project("shop")
    shop.ensure(netlab.default())
    one, two = container(), container()
    (before,) = netlab.join(shop, one)
    shop.release(one.id)
    assert netlab.join(shop, two)[0].ipv4 == before.ipv4


def test_a_new_manager_knows_what_the_last_one_did(project: Project, container: Make) -> None:
    network = project("shop").ensure(netlab.default())
    one = container()
    (before,) = netlab.join(project("shop"), one)
    later = project("shop")
    assert later.ensure(netlab.default()).bridge == network.bridge
    assert netlab.join(later, one) == [before]


def test_a_bridge_deleted_under_us_comes_back_with_its_containers(project: Project, container: Make) -> None:
    shop = project("shop")
    network = shop.ensure(netlab.default())
    one, two = container(), container()
    netlab.join(shop, one)
    (second,) = netlab.join(shop, two)
    netlab.shell(f"ip link del {network.bridge}")
    assert not one.run(lambda: netlab.reaches(second.ipv4))
    shop.ensure(netlab.default())
    # The question for the neighbour's address that went unanswered is repeated after a second.
    assert one.run(lambda: netlab.reaches(second.ipv4, patience=5))
    assert one.run(lambda: netlab.reaches(network.gateways[0]))


def test_networks_and_projects_do_not_reach_each_other(project: Project, container: Make) -> None:
    shop, blog = project("shop"), project("blog")
    shop.ensure(netlab.default())
    shop.ensure(netlab.default("shop_back"))
    blog.ensure(netlab.default("blog_default"))
    one, two, three = container(), container(), container()
    (first,) = netlab.join(shop, one)
    (second,) = netlab.join(shop, two, "shop_back")
    (third,) = netlab.join(blog, three, "blog_default")
    assert not one.run(lambda: netlab.reaches(second.ipv4))
    assert not one.run(lambda: netlab.reaches(third.ipv4))
    assert not three.run(lambda: netlab.reaches(first.ipv4))


def test_outbound_traffic_is_masqueraded_and_nobody_comes_in(project: Project, container: Make) -> None:
    outside = netlab.Outside(container())
    shop = project("shop")
    network = shop.ensure(netlab.default())
    one = container()
    (first,) = netlab.join(shop, one)
    listener = outside.box.run(lambda: socket.create_server(("198.51.100.2", 8000)))
    with listener:
        assert one.run(lambda: netlab.reaches("198.51.100.2", 8000))
        listener.settimeout(5)
        connection, peer = listener.accept()
        connection.close()
        assert peer[0] == "198.51.100.1"
    outside.box.shell(f"ip route add {network.subnets[0].subnet} via 198.51.100.1")
    assert not outside.box.run(lambda: netlab.reaches(first.ipv4))


def test_rules_flushed_by_somebody_are_written_again(project: Project, container: Make) -> None:
    outside = netlab.Outside(container())
    shop = project("shop")
    shop.ensure(netlab.default())
    one = container()
    netlab.join(shop, one)
    netlab.shell("nft flush ruleset")
    assert not one.run(lambda: netlab.reaches("198.51.100.2"))
    shop.ensure(netlab.default())
    assert one.run(lambda: netlab.reaches("198.51.100.2"))
    assert outside.box.process.poll() is None


def test_an_internal_network_leads_nowhere(project: Project, container: Make) -> None:
    netlab.Outside(container())
    shop = project("shop")
    shop.ensure(netlab.default(internal=True))
    one, two = container(), container()
    (first,), (second,) = netlab.join(shop, one), netlab.join(shop, two)
    assert first.gateway == ""
    assert one.run(lambda: netlab.reaches(second.ipv4))
    assert not one.run(lambda: netlab.reaches("198.51.100.2"))
    # Also not when the container finds itself a route.
    one.shell(f"ip route add default via {shop.list()[0].gateways[0]}")
    assert not one.run(lambda: netlab.reaches("198.51.100.2"))


def test_interfaces_are_ordered_and_one_gateway_is_the_default(project: Project, container: Make) -> None:
    shop = project("shop")
    for name in ("shop_a", "shop_b", "shop_c"):
        shop.ensure(netlab.default(name))
    one = container()
    found = shop.attach(
        one.id,
        one.pid,
        [
            types.EndpointSpec(network="shop_a"),
            types.EndpointSpec(network="shop_b", gw_priority=1, mac="02:00:00:00:00:07"),
            types.EndpointSpec(network="shop_c", priority=10, interface_name="lan"),
        ],
    )
    assert [(item.network, item.interface, bool(item.gateway)) for item in found] == [
        ("shop_c", "lan", False),
        ("shop_a", "eth0", False),
        ("shop_b", "eth1", True),
    ]
    assert f"default via {found[2].gateway} dev eth1" in one.shell("ip route")
    assert "02:00:00:00:00:07" in one.shell("ip link show eth1")


def test_network_mode_none_has_a_loopback_and_nothing_else(project: Project, container: Make) -> None:
    one = container()
    project("shop").loopback(one.pid)
    assert one.run(lambda: netlab.reaches("127.0.0.1"))
    assert one.run(lambda: [name for _, name in socket.if_nameindex()]) == ["lo"]


def test_subnets_keep_away_from_what_the_machine_routes(project: Project) -> None:
    netlab.shell("ip link add vpn type bridge; ip link set vpn up; ip route add 172.16.0.0/12 dev vpn table 51820")
    network = project("shop").ensure(netlab.default())
    assert network.subnets[0].subnet == "192.168.0.0/20"


def test_a_network_that_is_down_moves_away_from_a_route_that_came_later(project: Project) -> None:
    """A VPN that was dialled after a reboot; a network that is up keeps its addresses."""
    shop = project("shop")
    first = shop.ensure(netlab.default())
    netlab.shell("ip link add vpn type bridge; ip link set vpn up; ip route add 172.16.0.0/12 dev vpn table 51820")
    assert shop.ensure(netlab.default()).subnets == first.subnets
    netlab.shell(f"ip link del {first.bridge}")
    assert project("shop").ensure(netlab.default()).subnets[0].subnet == "192.168.0.0/20"


def test_an_external_network_is_another_projects(project: Project, container: Make) -> None:
    project("shop").ensure(netlab.default())
    blog = project("blog")
    blog.ensure(netlab.default(external=True))
    one, two = container(), container()
    netlab.join(project("shop"), one)
    (second,) = netlab.join(blog, two)
    assert one.run(lambda: netlab.reaches(second.ipv4))
    with pytest.raises(errors.NetworkError, match="external and does not exist"):
        blog.ensure(netlab.default("nobodys", external=True))


def test_removing_leaves_nothing_behind(project: Project, container: Make, where: paths.Paths) -> None:
    shop = project("shop")
    shop.ensure(netlab.default())
    one = container()
    netlab.join(shop, one)
    with pytest.raises(errors.NetworkError, match="in use by 1 container"):
        shop.remove("shop_default")
    shop.release(one.id)
    one.end()
    shop.remove("shop_default")
    shop.remove("shop_default")
    shop.shutdown()
    assert netlab.shell("ip -o link").count("\n") == 1
    assert netlab.shell("nft list ruleset") == ""
    assert os.listdir(f"{where.data}/networks") == [".lock"]


def test_pruning_drops_what_no_record_owns(project: Project, container: Make, where: paths.Paths) -> None:
    shop = project("shop")
    network = shop.ensure(netlab.default())
    one = container()
    netlab.join(shop, one)
    os.rmdir(where.container(one.id))
    shop.prune()
    assert shop.list()[0].allocations == {}
    os.unlink(f"{where.networks('shop-00000000')}/shop_default.json")
    shop.prune()
    assert bridge.index_of(network.bridge) is None


def test_changed_wishes_remake_an_unused_network_and_refuse_a_used_one(project: Project, container: Make) -> None:
    shop = project("shop")
    shop.ensure(netlab.default())
    wish = netlab.default(pools=(types.Pool(subnet="10.77.0.0/24"),))
    assert shop.diverged(wish)
    assert shop.ensure(wish).gateways == ("10.77.0.1",)
    netlab.join(shop, container())
    with pytest.raises(errors.NetworkError, match="in use"):
        shop.ensure(netlab.default())


def test_many_callers_at_once_get_addresses_of_their_own(project: Project, container: Make) -> None:
    shop = project("shop")
    shop.ensure(netlab.default())
    boxes = [container() for _ in range(20)]
    found: list[types.Endpoint] = []
    threads = [threading.Thread(target=lambda box=box: found.extend(netlab.join(shop, box))) for box in boxes]
    before = len(os.listdir("/proc/self/fd"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({item.ipv4 for item in found}) == 20
    # The network thread's own: a descriptor of its namespace, a netlink socket and what asyncio wants for it.
    assert len(os.listdir("/proc/self/fd")) <= before + 8
    assert [thread.name for thread in threading.enumerate()].count("network") == 1


def test_a_driver_that_is_not_built_in_is_said_so(project: Project) -> None:
    with pytest.raises(errors.NetworkError, match="`overlay`, which is not built in"):
        project("shop").ensure(netlab.default(driver="overlay"))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"driver_opts": {}}, "names no interface"),
        ({"driver_opts": {"parent": "eth99"}}, "`eth99`, which this machine has not"),
        ({"driver_opts": {"parent": "lo", "macvlan_mode": "x"}}, "`macvlan_mode`: `x`"),
        ({"driver_opts": {"parent": "lo"}}, "no subnet"),
    ],
)
def test_what_a_macvlan_needs_is_said(project: Project, more: dict[str, Any], problem: str) -> None:
    with pytest.raises(errors.NetworkError, match=problem):
        project("shop").ensure(netlab.default(driver="macvlan", **more))


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_containers_on_an_interface_of_the_machines(project: Project, container: Make, driver: str) -> None:
    lan, one, two = container(), container(), container()
    netlab.shell(f"ip link add lan0 type veth peer name lan1 netns {lan.pid}; ip link set lan0 up")
    if subprocess.run(["ip", "link", "add", "link", "lan0", "name", "try0", "type", driver]).returncode:
        pytest.skip(f"needs {driver} in the kernel")
    netlab.shell("ip link del try0")
    lan.shell("ip link set lan1 up; ip addr add 10.5.0.1/24 dev lan1")
    shop = project("shop")
    pool = types.Pool(subnet="10.5.0.0/24", ip_range="10.5.0.64/26", gateway="10.5.0.1")
    network = shop.ensure(netlab.default(driver=driver, driver_opts={"parent": "lan0"}, pools=(pool,)))
    assert network.bridge == ""
    (first,), (second,) = netlab.join(shop, one), netlab.join(shop, two)
    assert first.ipv4.startswith("10.5.0.6")
    assert one.run(lambda: netlab.reaches(second.ipv4))
    # The neighbours see it, and it them, with nothing in between.
    assert one.run(lambda: netlab.reaches("10.5.0.1"))
    assert lan.run(lambda: netlab.reaches(first.ipv4))
    assert "default via 10.5.0.1" in one.shell("ip route")
    # The same address again, while the last life of it is still on its way out.
    one.end()
    again = netlab.Container(2)
    try:
        (found,) = shop.attach(again.id, again.pid, [types.EndpointSpec(network=network.name)])
        assert found == first
        assert lan.run(lambda: netlab.reaches(first.ipv4))
    finally:
        again.end()
    for box in (one, two):
        shop.release(box.id)
    shop.remove(network.name)


def test_bridge_name_and_mtu_are_the_specs(project: Project, container: Make) -> None:
    shop = project("shop")
    network = shop.ensure(
        netlab.default(driver_opts={drivers.BRIDGE: "shop0", drivers.MTU: "1400"}),
    )
    one = container()
    netlab.join(shop, one)
    assert network.bridge == "shop0"
    assert "mtu 1400" in one.shell("ip link show eth0")


def seen_by(box: netlab.Container, listener: socket.socket, client: Callable[[], socket.socket]) -> str:
    """The address that the server in the container sees when ``client`` connects."""
    with client():
        listener.settimeout(5)
        connection, peer = listener.accept()
        connection.close()
    assert box.process.poll() is None
    return str(peer[0])


def test_a_port_that_the_kernel_carries_shows_who_comes(project: Project, container: Make, where: paths.Paths) -> None:
    outside = netlab.Outside(container())
    shop = project("shop")
    network = shop.ensure(netlab.default())
    one = container()
    (first,) = netlab.join(shop, one)
    proxy = portproxy_client.PortProxy(where.project_run("shop-00000000"))
    publication = types.Publication(80, 18200, 18200, "", "tcp", kernel=True)
    wish = types.EndpointSpec(network=network.name)

    def from_outside() -> socket.socket:
        return outside.box.run(lambda: socket.create_connection(("198.51.100.1", 18200), timeout=5))

    def from_here() -> socket.socket:
        return socket.create_connection(("127.0.0.1", 18200), timeout=5)

    with one.run(lambda: socket.create_server(("0.0.0.0", 80))) as listener:
        proxy.apply([portproxy_client.Wanted(publication, one.backend(first.ipv4))])
        assert seen_by(one, listener, from_outside) == first.ipv4
        shop.forward([(one.id, [wish], publication, 18200)])
        assert seen_by(one, listener, from_outside) == "198.51.100.2"
        # The machine itself goes by the proxy, as ever; and nobody comes by another port.
        assert seen_by(one, listener, from_here) == first.ipv4
        outside.box.shell(f"ip route add {first.ipv4} via 198.51.100.1")
        assert not outside.box.run(lambda: netlab.reaches(first.ipv4, 80, patience=1))
        assert one.run(lambda: netlab.reaches("198.51.100.2"))
        shop.forward([])
        assert seen_by(one, listener, from_outside) == first.ipv4
    proxy.shutdown()


def test_datagrams_that_the_kernel_carries(project: Project, container: Make) -> None:
    outside = netlab.Outside(container())
    shop = project("shop")
    network = shop.ensure(netlab.default())
    one = container()
    netlab.join(shop, one)
    publication = types.Publication(53, 18201, 18201, "198.51.100.1", "udp", kernel=True)
    shop.forward([(one.id, [types.EndpointSpec(network=network.name)], publication, 18201)])
    server = one.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = outside.box.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, client:
        server.bind(("0.0.0.0", 53))
        client.connect(("198.51.100.1", 18201))
        client.settimeout(5)
        server.settimeout(5)
        client.send(b"hello")
        data, who = server.recvfrom(100)
        assert (data, who[0]) == (b"hello", "198.51.100.2")
        server.sendto(b"there", who)
        assert client.recv(100) == b"there"
