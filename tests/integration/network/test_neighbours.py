"""Containers reach the outside on machines where another firewall would drop what it does not know."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from devenv.network import manager
from tests.support import netlab

Make = Callable[[], netlab.Container]
Project = Callable[[str], manager.NetworkManager]

# As iptables-nft writes them: what Docker makes, and what ufw or a script of somebody's does.
DOCKER = """
table ip filter {
  chain DOCKER-USER {
    return comment "end"
  }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    jump DOCKER-USER
  }
}
"""
UFW = """
table ip filter {
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
  }
}
"""
# Its last chain rejects; what a zone knows is let pass before.
FIREWALLD = """
table inet firewalld {
  chain zones {
    ct state established,related accept
  }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    jump zones
    reject
  }
}
"""


def rules(text: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "rules.nft"
    file.write_text(text)
    netlab.shell(f"nft -f {file}")


@pytest.mark.parametrize("text", [DOCKER, UFW], ids=["docker", "ufw"])
def test_a_policy_of_drop_does_not_keep_services_in(
    text: str, project: Project, container: Make, tmp_path: pathlib.Path
) -> None:
    outside = netlab.Outside(container())
    rules(text, tmp_path)
    before = netlab.shell("nft list table ip filter")
    shop = project("shop")
    network = shop.ensure(netlab.default())
    one = container()
    (first,) = netlab.join(shop, one)
    assert one.run(lambda: netlab.reaches("198.51.100.2"))
    # Ours still decides what comes in.
    outside.box.shell(f"ip route add {network.subnets[0].subnet} via 198.51.100.1")
    assert not outside.box.run(lambda: netlab.reaches(first.ipv4, patience=1))
    # Looking again writes nothing twice.
    there = netlab.shell("nft list table ip filter")
    shop.ensure(netlab.default())
    assert netlab.shell("nft list table ip filter") == there
    one.end()
    shop.release(one.id)
    shop.remove(network.name)
    assert netlab.shell("nft list table ip filter") == before


def test_a_firewall_that_comes_later_is_met_at_the_next_look(
    project: Project, container: Make, tmp_path: pathlib.Path
) -> None:
    netlab.Outside(container())
    shop = project("shop")
    shop.ensure(netlab.default())
    one = container()
    netlab.join(shop, one)
    rules(UFW, tmp_path)
    assert not one.run(lambda: netlab.reaches("198.51.100.2", patience=1))
    shop.ensure(netlab.default())
    assert one.run(lambda: netlab.reaches("198.51.100.2"))
    # Docker after it: its chain takes the rules over.
    netlab.shell("nft delete table ip filter")
    rules(DOCKER, tmp_path)
    shop.ensure(netlab.default())
    assert one.run(lambda: netlab.reaches("198.51.100.2"))


def test_projects_keep_to_their_own_rules(project: Project, tmp_path: pathlib.Path) -> None:
    rules(UFW, tmp_path)
    shop, blog = project("shop"), project("blog")
    kept = shop.ensure(netlab.default())
    gone = blog.ensure(netlab.default("blog_default"))
    blog.remove(gone.name)
    left = netlab.shell("nft list table ip filter")
    assert kept.bridge in left
    assert gone.bridge not in left


def test_firewalld_is_told_of_with_the_line_that_helps(
    project: Project, container: Make, tmp_path: pathlib.Path
) -> None:
    netlab.Outside(container())
    rules(FIREWALLD, tmp_path)
    shop = project("shop")
    network = shop.ensure(netlab.default())
    one = container()
    netlab.join(shop, one)
    assert not one.run(lambda: netlab.reaches("198.51.100.2", patience=1)) or shop.notes()
    assert any(f"--add-interface={network.bridge}" in note for note in shop.notes())
    netlab.shell(f'nft add rule inet firewalld zones iifname "{network.bridge}" accept')
    shop.ensure(netlab.default())
    assert shop.notes() == ()
