"""The rules as data: what is forwarded, what is masqueraded."""

from __future__ import annotations

from devenv.network import firewall, types


def network(name: str, *subnets: str, internal: bool = False) -> types.Network:
    return types.Network(
        name=name,
        project_id="shop-00000000",
        driver="bridge",
        internal=internal,
        subnets=tuple(types.Subnet(subnet, "") for subnet in subnets),
        bridge=f"dv-{name}",
        mtu=1500,
        wishes="",
        created=0.0,
        labels={},
        allocations={},
    )


def test_a_table_with_an_open_and_an_internal_network() -> None:
    table = firewall.table("shop-00000000", [network("b", "10.1.0.0/24", internal=True), network("a", "10.0.0.0/24")])
    assert table.text().splitlines()[1:] == [
        "  chain forward {",
        "    type filter hook forward priority 0; policy accept;",
        '    iifname "dv-a" oifname "dv-a" accept',
        '    oifname "dv-a" ct state established,related accept',
        '    oifname "dv-a" drop',
        '    iifname "dv-b" oifname "dv-b" accept',
        '    iifname "dv-b" drop',
        '    oifname "dv-b" drop',
        "  }",
        "  chain postrouting {",
        "    type nat hook postrouting priority 100; policy accept;",
        '    ip saddr 10.0.0.0/24 oifname != "dv-a" masquerade',
        "  }",
        "}",
    ]


def test_ipv6_is_masqueraded_as_well() -> None:
    table = firewall.table("shop-00000000", [network("a", "10.0.0.0/24", "fd00:1::/64")])
    assert table.rules[-1].text() == 'ip6 saddr fd00:1::/64 oifname != "dv-a" masquerade'


def test_the_order_of_networks_does_not_matter_and_the_name_is_the_projects() -> None:
    one, other = network("a", "10.0.0.0/24"), network("b", "10.1.0.0/24")
    assert firewall.table("shop", [one, other]) == firewall.table("shop", [other, one])
    assert firewall.table("shop", [one]).name != firewall.table("blog", [one]).name


def test_ports_that_the_kernel_carries_are_led_from_outside_alone() -> None:
    forwards = [
        types.Forward("tcp", "", 8080, "10.0.0.2", 80, "dv-a"),
        types.Forward("udp", "192.0.2.1", 53, "10.0.0.3", 5353, "dv-a"),
    ]
    table = firewall.table("shop", [network("a", "10.0.0.0/24"), network("b", "10.1.0.0/24")], forwards, ["eth0"])
    assert [rule.text() for rule in table.rules if rule.chain == "prerouting"] == [
        'iifname "eth0" meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.0.0.2:80',
        'iifname "eth0" ip daddr 192.0.2.1 udp dport 53 dnat ip to 10.0.0.3:5353',
    ]
    assert [rule.text() for rule in table.rules if "dnat" in rule.text() and rule.chain == "forward"] == [
        'oifname "dv-a" ct status dnat accept'
    ]
    assert "prerouting" not in firewall.table("shop", [network("a", "10.0.0.0/24")]).text()
