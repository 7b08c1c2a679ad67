"""Subnets and addresses as tables."""

from __future__ import annotations

import ipaddress

import pytest

from devenv import errors
from devenv.network import ipam, types


def nets(*texts: str) -> list[ipam.Net]:
    return [ipaddress.ip_network(text) for text in texts]


def subnets(
    *pools: types.Pool, host: list[ipam.Net] | None = None, others: list[ipam.Net] | None = None, ipv6: bool = False
) -> list[types.Subnet]:
    spec = types.NetworkSpec(name="shop_default", pools=pools, enable_ipv6=ipv6)
    return list(ipam.subnets(spec, host=host or [], others=others or [], seed="shop"))


def network(*subnets: types.Subnet, **allocations: str) -> types.Network:
    return types.Network(
        name="shop_default",
        project_id="shop-00000000",
        driver="bridge",
        internal=False,
        subnets=subnets or (types.Subnet("172.18.0.0/20", "172.18.0.1"),),
        bridge="dv-00000000",
        mtu=1500,
        wishes="",
        created=0.0,
        labels={},
        allocations={key: types.Allocation(value, "", "") for key, value in allocations.items()},
    )


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        ([], "172.18.0.0/20"),
        (["172.18.0.0/20"], "172.18.16.0/20"),
        (["172.18.3.4/32"], "172.18.16.0/20"),
        (["172.18.0.0/15"], "172.20.0.0/20"),
        (["172.16.0.0/12"], "192.168.0.0/20"),
        (["172.16.0.0/12", "192.168.1.0/24"], "192.168.16.0/20"),
        (["10.0.0.0/8", "fd00::/8"], "172.18.0.0/20"),
    ],
)
def test_the_first_pool_that_nothing_leads_to(taken: list[str], chosen: str) -> None:
    assert subnets(host=nets(*taken))[0].subnet == chosen
    assert subnets(others=nets(*taken))[0].subnet == chosen


def test_no_pool_left_says_what_to_write() -> None:
    with pytest.raises(errors.NetworkError, match="finds no free subnet") as caught:
        subnets(host=nets("172.16.0.0/12", "192.168.0.0/16"))
    assert "ipam" in str(caught.value.hint)


def test_the_specs_own_subnet_may_lie_where_the_machine_routes_but_not_in_another_network() -> None:
    pool = types.Pool(subnet="10.5.0.0/16", gateway="10.5.0.254")
    assert subnets(pool, host=nets("10.0.0.0/8")) == [types.Subnet("10.5.0.0/16", "10.5.0.254")]
    with pytest.raises(errors.NetworkError, match="which another network has"):
        subnets(pool, others=nets("10.5.7.0/24"))


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (types.Pool(subnet="10.5.0.0/99"), "no valid subnet"),
        (types.Pool(subnet="10.5.0.0/31"), "too small"),
        (types.Pool(subnet="10.5.0.0/24", gateway="10.6.0.1"), "`gateway` 10.6.0.1 outside"),
        (types.Pool(subnet="10.5.0.0/24", ip_range="10.6.0.0/28"), "outside of its subnet"),
        (types.Pool(subnet="10.5.0.0/24", aux_addresses=(("router", "10.6.0.9"),)), "`aux_addresses` 10.6.0.9"),
        (types.Pool(gateway="10.5.0.1"), "no subnet to hold it"),
        (types.Pool(subnet="fd01::/64"), "IPv6 is off"),
    ],
)
def test_a_wrong_pool_is_refused(pool: types.Pool, message: str) -> None:
    with pytest.raises(errors.NetworkError, match=message):
        subnets(pool)


def test_ipv6_gets_a_unique_local_subnet_of_the_networks_own() -> None:
    ipv4, ipv6 = subnets(ipv6=True)
    assert ipv4.subnet == "172.18.0.0/20"
    assert ipaddress.ip_network(ipv6.subnet).subnet_of(ipaddress.ip_network("fd00::/8"))  # type: ignore[arg-type]
    assert subnets(ipv6=True)[1] == ipv6
    assert subnets(ipv6=True, others=nets(ipv6.subnet))[1] != ipv6


def test_the_lowest_free_address_and_the_same_one_again() -> None:
    wish = types.EndpointSpec(network="shop_default")
    assert ipam.allocate(network(), "a", wish).ipv4 == "172.18.0.2"
    assert ipam.allocate(network(a="172.18.0.2", c="172.18.0.4"), "b", wish).ipv4 == "172.18.0.3"
    assert ipam.allocate(network(a="172.18.0.9"), "a", wish).ipv4 == "172.18.0.9"


def test_ip_range_aux_addresses_and_gateway_are_kept_clear() -> None:
    subnet = types.Subnet("10.0.0.0/24", "10.0.0.16", "10.0.0.16/30", ("10.0.0.17",))
    wish = types.EndpointSpec(network="shop_default")
    assert ipam.allocate(network(subnet), "a", wish).ipv4 == "10.0.0.18"
    with pytest.raises(errors.NetworkError, match="no free IPv4 address"):
        ipam.allocate(network(subnet, a="10.0.0.18", b="10.0.0.19"), "c", wish)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("172.18.0.2", "in use already"),
        ("172.18.0.1", "in use already"),
        ("10.0.0.1", "outside of network"),
        ("x", "is no address"),
    ],
)
def test_a_static_address_that_cannot_be_had(address: str, message: str) -> None:
    with pytest.raises(errors.NetworkError, match=message):
        ipam.allocate(network(a="172.18.0.2"), "b", types.EndpointSpec(network="shop_default", ipv4=address))


def test_a_static_address_outside_of_the_range_is_fine() -> None:
    subnet = types.Subnet("10.0.0.0/24", "10.0.0.1", "10.0.0.128/25")
    wish = types.EndpointSpec(network="shop_default", ipv4="10.0.0.5", mac="02:AA:00:00:00:01")
    assert ipam.allocate(network(subnet), "a", wish) == types.Allocation("10.0.0.5", "", "02:aa:00:00:00:01")


def test_a_mac_says_its_address_and_is_nobodys_card() -> None:
    assert ipam.mac_of("172.18.0.2") == "02:42:ac:12:00:02"
    assert ipam.mac_of("fd00::2").startswith("02:42:")


def test_the_whole_subnet_can_be_handed_out_and_not_one_more() -> None:
    subnet = types.Subnet("10.0.0.0/29", "10.0.0.1")
    held: dict[str, str] = {}
    for number in range(5):
        address = ipam.allocate(network(subnet, **held), str(number), types.EndpointSpec(network="n")).ipv4
        held[str(number)] = address
    assert sorted(held.values()) == [f"10.0.0.{last}" for last in range(2, 7)]
    with pytest.raises(errors.NetworkError):
        ipam.allocate(network(subnet, **held), "more", types.EndpointSpec(network="n"))
