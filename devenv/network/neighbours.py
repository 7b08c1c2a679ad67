"""The machine's other firewalls: Docker, ufw or an iptables of somebody's, which would drop what ours lets pass.

A packet is forwarded if no base chain drops it. Docker gives ``FORWARD`` the policy ``drop`` and sends it through
``DOCKER-USER`` first, which it keeps for others' rules; ufw and iptables scripts have the policy without such a chain.
There the bridges of a project are let pass, in both directions: which packets may, our own table decides. The rules
bear the name of the project's table as their comment, and go with its bridges.

firewalld rejects in a chain that nothing can be put before; ``obstacle`` says what to tell it. Tables of legacy
iptables can't be seen from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devenv.network import firewall, nft

FAMILIES = ("ip", "ip6")
_TABLE = "filter"
_USERS = "DOCKER-USER"
_FORWARD = "FORWARD"


def let_pass(name: str, bridges: Iterable[str]) -> None:
    """Exactly these bridges, of the project whose table has this name. Runs in the network namespace it is for."""
    wanted = {f"{name} {key} {bridge}": _rule(key, bridge) for bridge in bridges for key in ("iifname", "oifname")}
    for family in FAMILIES:
        policies = {chain: nft.policy(family, _TABLE, chain) for chain in (_USERS, _FORWARD)}
        place = _place(policies)
        for chain, policy in policies.items():
            if policy is None:
                continue
            there = nft.commented(family, _TABLE, chain)
            ours = {text: handles for text, handles in there.items() if text.startswith(f"{name} ")}
            here = wanted if chain == place else {}
            put = [(rule._replace(chain=chain), text) for text, rule in here.items() if text not in ours]
            drop = [handle for text, handles in ours.items() for handle in handles[0 if text not in here else 1 :]]
            nft.amend(family, _TABLE, chain, put, drop)


def _place(policies: Mapping[str, str | None]) -> str:
    """The chain to put rules into; empty where nothing drops."""
    if policies[_USERS] is not None:
        return _USERS
    return _FORWARD if policies[_FORWARD] == "drop" else ""


def obstacle(bridges: Iterable[str]) -> str:
    """What still stands in the way of these bridges, with the line that removes it; empty if nothing does."""
    if nft.policy("inet", "firewalld", "filter_FORWARD") is None:
        return ""
    names = [name for name in sorted(bridges) if not nft.mentions("inet", "firewalld", name)]
    if not names:
        return ""
    interfaces = " ".join(f"--add-interface={name}" for name in names)
    return (
        "services may not reach the outside: firewalld rejects what comes from bridges that it does not know; "
        f"`sudo firewall-cmd --zone=trusted {interfaces}` lets them pass"
    )


def _rule(key: str, bridge: str) -> firewall.Rule:
    return firewall.Rule("", (firewall.Match(key, bridge),), "accept")
