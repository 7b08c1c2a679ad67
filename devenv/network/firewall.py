"""What nftables is told: one table a project, written whole and atomically, as data first.

    table inet devenv_<hash> {
      chain forward     { type filter hook forward priority filter; … }
      chain postrouting { type nat hook postrouting priority srcnat; … }
    }

A network's bridge talks to itself and to the outside. Nothing is forwarded into it but answers to what it began, so
other projects, other networks of this one and the neighbours of this machine can't reach it: published ports don't
need forwarding. An ``internal`` network is not forwarded at all, neither in nor out. Encoding is in ``nft``.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from devenv.network import types


class Match(NamedTuple):
    key: str  # iifname, oifname, saddr, daddr, dport, ct, status, fib
    value: str
    negated: bool = False

    def text(self) -> str:
        sign = "!= " if self.negated else ""
        if self.key in ("saddr", "daddr"):
            family = "ip6" if ":" in self.value else "ip"
            return f"{family} {self.key} {sign}{self.value}"
        if self.key == "dport":
            protocol, _, port = self.value.partition(":")
            return f"{protocol} dport {sign}{port}"
        if self.key == "status":
            return f"ct status {sign}{self.value}"
        if self.key == "fib":
            return f"meta nfproto ipv4 fib daddr type {sign}{self.value}"
        if self.key == "ct":
            return f"ct state {sign}{self.value}"
        return f'{self.key} {sign}"{self.value}"'


class Rule(NamedTuple):
    chain: str
    matches: tuple[Match, ...]
    verdict: str  # accept, drop, masquerade, dnat ip to ADDRESS:PORT

    def text(self) -> str:
        return " ".join([*(match.text() for match in self.matches), self.verdict])


class Chain(NamedTuple):
    name: str
    type: str
    hook: str
    priority: int


class Table(NamedTuple):
    name: str
    chains: tuple[Chain, ...]
    rules: tuple[Rule, ...]

    def text(self) -> str:
        """As ``nft list`` would print it, for tests and for people."""
        lines = [f"table inet {self.name} {{"]
        for chain in self.chains:
            lines.append(f"  chain {chain.name} {{")
            lines.append(f"    type {chain.type} hook {chain.hook} priority {chain.priority}; policy accept;")
            lines.extend(f"    {rule.text()}" for rule in self.rules if rule.chain == chain.name)
            lines.append("  }")
        return "\n".join([*lines, "}"])


PREROUTING = Chain("prerouting", "nat", "prerouting", -100)
FORWARD = Chain("forward", "filter", "forward", 0)
# Where destinations are translated: before anything else of that kind is asked, and after connections are tracked.
OUTPUT = Chain("output", "nat", "output", -100)
POSTROUTING = Chain("postrouting", "nat", "postrouting", 100)
ANSWERS = Match("ct", "established,related")


def table_name(project_id: str) -> str:
    return "devenv_" + hashlib.sha256(project_id.encode()).hexdigest()[:8]


def table(
    project_id: str,
    networks: Iterable[types.Network],
    forwards: Iterable[types.Forward] = (),
    ways_out: Iterable[str] = (),
) -> Table:
    """``forwards`` are led to containers from where they come in by ``ways_out``, interfaces of the machine."""
    rules: list[Rule] = []
    led = sorted(forwards)
    for network in sorted(networks, key=lambda item: item.name):
        led_here = any(forward.bridge == network.bridge for forward in led)
        rules += _internal(network) if network.internal else _open(network, led=led_here)
    rules += [_led(forward, interface) for forward in led for interface in sorted(ways_out)]
    chains = (PREROUTING, FORWARD, POSTROUTING) if led else (FORWARD, POSTROUTING)
    return Table(table_name(project_id), chains, tuple(rules))


def _led(forward: types.Forward, interface: str) -> Rule:
    where = Match("daddr", forward.host_ip) if forward.host_ip else Match("fib", "local")
    port = Match("dport", f"{forward.protocol}:{forward.port}")
    return Rule(
        "prerouting", (Match("iifname", interface), where, port), f"dnat ip to {forward.address}:{forward.target}"
    )


def _internal(network: types.Network) -> list[Rule]:
    incoming, outgoing = Match("iifname", network.bridge), Match("oifname", network.bridge)
    return [
        Rule("forward", (incoming, outgoing), "accept"),
        Rule("forward", (incoming,), "drop"),
        Rule("forward", (outgoing,), "drop"),
    ]


def _open(network: types.Network, *, led: bool) -> list[Rule]:
    incoming, outgoing = Match("iifname", network.bridge), Match("oifname", network.bridge)
    elsewhere = Match("oifname", network.bridge, negated=True)
    rules = [
        Rule("forward", (incoming, outgoing), "accept"),
        Rule("forward", (outgoing, ANSWERS), "accept"),
        *([Rule("forward", (outgoing, Match("status", "dnat")), "accept")] if led else []),
        Rule("forward", (outgoing,), "drop"),
    ]
    for subnet in network.subnets:
        source = Match("saddr", str(ipaddress.ip_network(subnet.subnet)))
        rules.append(Rule("postrouting", (source, elsewhere), "masquerade"))
    return rules


def names_table(address: str, port: int, listening: int) -> Table:
    """In a container: what goes to ``port`` of one of its local addresses reaches who listens on another port."""
    rules = [
        Rule(
            "output",
            (Match("daddr", address), Match("dport", f"{protocol}:{port}")),
            f"dnat ip to {address}:{listening}",
        )
        for protocol in ("udp", "tcp")
    ]
    return Table("devenv_names", (OUTPUT,), tuple(rules))
