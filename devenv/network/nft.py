"""nf_tables over netlink: a table replaced in one transaction, in a fifth of a millisecond and with no library.

pyroute2's own classes need 75 ms for a hundred rules and drop errors when an acknowledgement isn't asked for on
every message; a project's rules are a dozen kinds of attribute, so they are packed here. Numbers are those of
linux/netfilter/nf_tables.h. A batch is atomic: the kernel commits all of it or nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable

from devenv.network import firewall

NETLINK_NETFILTER = 12
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE, NLM_F_APPEND = 0x1, 0x4, 0x300, 0x400, 0x800
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11
NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN = 0, 1, 2, 3, 4
NFT_MSG_NEWRULE, NFT_MSG_GETRULE, NFT_MSG_DELRULE = 6, 7, 8
NFPROTO_UNSPEC, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 = 0, 1, 2, 10
NLA_F_NESTED = 0x8000
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
NFT_META_IIFNAME, NFT_META_OIFNAME, NFT_META_NFPROTO, NFT_META_L4PROTO = 6, 7, 15, 16
NFT_CMP_EQ, NFT_CMP_NEQ = 0, 1
NFT_REG_VERDICT, NFT_REG_1, NFT_REG_2 = 0, 1, 2
NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER = 1, 2
NFT_NAT_DNAT = 1
# Where an address is in the header of an IPv4 and of an IPv6 packet.
OFFSETS = {("saddr", 4): 12, ("daddr", 4): 16, ("saddr", 6): 8, ("daddr", 6): 24}
# Bit 1 + the state's number in enum ip_conntrack_info.
STATES = {"established": 1 << 1, "related": 1 << 2}
# enum ip_conntrack_status, and rtnetlink's types of routes.
STATUSES = {"dnat": 1 << 5}
ADDRESS_TYPES = {"local": 2}
NFT_CT_STATE, NFT_CT_STATUS = 0, 2
NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR = 3, 2
PROTOCOLS = {"tcp": 6, "udp": 17}
VERDICTS = {"drop": 0, "accept": 1}
FAMILIES = {"inet": NFPROTO_INET, "ip": NFPROTO_IPV4, "ip6": NFPROTO_IPV6}


def _attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + bytes(-len(payload) % 4)


def _nest(kind: int, *attrs: bytes) -> bytes:
    return _attr(kind | NLA_F_NESTED, b"".join(attrs))


def _name(kind: int, text: str) -> bytes:
    return _attr(kind, text.encode() + b"\0")


def _be32(kind: int, value: int) -> bytes:
    return _attr(kind, struct.pack(">i", value))


def _expression(name: str, *attrs: bytes) -> bytes:
    return _nest(1, _name(1, name), _nest(2, *attrs))


def _compare(value: bytes, *, negated: bool = False) -> bytes:
    operator = NFT_CMP_NEQ if negated else NFT_CMP_EQ
    return _expression("cmp", _be32(1, NFT_REG_1), _be32(2, operator), _nest(3, _attr(1, value)))


def _mask(mask: bytes) -> bytes:
    zero = bytes(len(mask))
    registers = (_be32(1, NFT_REG_1), _be32(2, NFT_REG_1), _be32(3, len(mask)))
    return _expression("bitwise", *registers, _nest(4, _attr(1, mask)), _nest(5, _attr(1, zero)))


def _meta(key: int) -> bytes:
    return _expression("meta", _be32(1, NFT_REG_1), _be32(2, key))


def _match(match: firewall.Match) -> bytes:
    if match.key in ("iifname", "oifname"):
        key = NFT_META_IIFNAME if match.key == "iifname" else NFT_META_OIFNAME
        return _meta(key) + _compare(match.value.encode().ljust(16, b"\0"), negated=match.negated)
    if match.key == "fib":
        found = _expression("fib", _be32(1, NFT_REG_1), _be32(2, NFT_FIB_RESULT_ADDRTYPE), _be32(3, NFTA_FIB_F_DADDR))
        ipv4 = _meta(NFT_META_NFPROTO) + _compare(bytes((NFPROTO_IPV4,)))
        return ipv4 + found + _compare(struct.pack("=I", ADDRESS_TYPES[match.value]), negated=match.negated)
    if match.key in ("ct", "status"):
        bits, key = (STATES, NFT_CT_STATE) if match.key == "ct" else (STATUSES, NFT_CT_STATUS)
        mask = sum(bits[name] for name in match.value.split(","))
        load = _expression("ct", _be32(1, NFT_REG_1), _be32(2, key))
        return load + _mask(struct.pack("=I", mask)) + _compare(bytes(4), negated=not match.negated)
    if match.key == "dport":
        protocol, _, port = match.value.partition(":")
        where = (_be32(2, NFT_PAYLOAD_TRANSPORT_HEADER), _be32(3, 2), _be32(4, 2))
        return b"".join(
            (
                _meta(NFT_META_L4PROTO) + _compare(bytes((PROTOCOLS[protocol],))),
                _expression("payload", _be32(1, NFT_REG_1), *where),
                _compare(struct.pack(">H", int(port)), negated=match.negated),
            )
        )
    if match.key in ("saddr", "daddr"):
        net = ipaddress.ip_network(match.value)
        family, offset = NFPROTO_IPV4 if net.version == 4 else NFPROTO_IPV6, OFFSETS[match.key, net.version]
        where = (_be32(2, NFT_PAYLOAD_NETWORK_HEADER), _be32(3, offset), _be32(4, net.max_prefixlen // 8))
        return b"".join(
            (
                _meta(NFT_META_NFPROTO) + _compare(bytes((family,))),
                _expression("payload", _be32(1, NFT_REG_1), *where),
                _mask(net.netmask.packed),
                _compare(net.network_address.packed, negated=match.negated),
            )
        )
    raise ValueError(match.key)


def _load(register: int, value: bytes) -> bytes:
    return _expression("immediate", _be32(1, register), _nest(2, _attr(1, value)))


def _verdict(verdict: str) -> bytes:
    if verdict == "masquerade":
        return _expression("masq")
    if verdict.startswith("dnat ip to "):
        address, _, port = verdict.rpartition(" ")[2].partition(":")
        load = _load(NFT_REG_1, ipaddress.IPv4Address(address).packed) + _load(NFT_REG_2, struct.pack(">H", int(port)))
        where = (_be32(1, NFT_NAT_DNAT), _be32(2, NFPROTO_IPV4), _be32(3, NFT_REG_1), _be32(5, NFT_REG_2))
        return load + _expression("nat", *where)
    code = _nest(2, _be32(1, VERDICTS[verdict]))
    return _expression("immediate", _be32(1, NFT_REG_VERDICT), _nest(2, code))


def _rule(table: str, rule: firewall.Rule) -> bytes:
    expressions = b"".join(map(_match, rule.matches)) + _verdict(rule.verdict)
    return _name(1, table) + _name(2, rule.chain) + _nest(4, expressions)


def _chain(table: str, chain: firewall.Chain) -> bytes:
    hook = _nest(4, _be32(1, HOOKS[chain.hook]), _be32(2, chain.priority))
    return _name(1, table) + _name(3, chain.name) + hook + _be32(5, VERDICTS["accept"]) + _name(7, chain.type)


Message = tuple[int, int, bytes]  # type, flags, attributes


def _message(
    kind: int, *, sequence: int, flags: int = 0, family: int = NFPROTO_INET, resource: int = 0, payload: bytes = b""
) -> bytes:
    header = struct.pack("=IHHII", 20 + len(payload), kind, flags | NLM_F_REQUEST, sequence, 0)
    return header + struct.pack("=BBH", family, 0, socket.htons(resource)) + payload


def _batch(kind: int, sequence: int) -> bytes:
    return _message(kind, sequence=sequence, family=NFPROTO_UNSPEC, resource=NFNL_SUBSYS_NFTABLES)


def _send(messages: Iterable[Message], *, family: int = NFPROTO_INET) -> None:
    """One transaction. Raises the first error that the kernel reports, and then nothing of it was done."""
    batch = [_batch(NFNL_MSG_BATCH_BEGIN, 0)]
    last = 0
    for last, (kind, flags, payload) in enumerate(messages, 1):
        number = NFNL_SUBSYS_NFTABLES << 8 | kind
        batch.append(_message(number, sequence=last, flags=flags | NLM_F_ACK, family=family, payload=payload))
    batch.append(_batch(NFNL_MSG_BATCH_END, last + 1))
    data = b"".join(batch)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as netlink:
        # The batch has to be one message, however many rules it holds.
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(len(data) * 2, 212992))
        netlink.settimeout(10)
        netlink.bind((0, 0))
        netlink.send(data)
        _acknowledged(netlink, last)


def _acknowledged(netlink: socket.socket, count: int) -> None:
    while count:
        data = netlink.recv(1 << 16)
        while len(data) >= 20:
            length, kind, _, _, _ = struct.unpack_from("=IHHII", data)
            if kind == NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", data, 16)
                if code:
                    raise OSError(-code, os.strerror(-code), "nftables")
                count -= 1
            data = data[(length + 3) & ~3 :]


def replace(table: firewall.Table) -> None:
    """Write the table whole, in place of what it held. Runs in the network namespace it is for."""
    name = _name(1, table.name)
    messages: list[Message] = [
        # Made first, so that there is one to delete: a missing one would fail the batch.
        (NFT_MSG_NEWTABLE, NLM_F_CREATE, name),
        (NFT_MSG_DELTABLE, 0, name),
    ]
    _send([*messages, *_whole(table)])


def ensure(table: firewall.Table) -> None:
    """Write a table that never changes, unless it is there: without a deletion the kernel waits for nobody, and a new
    namespace is spared 8 ms."""
    if not exists(table.name):
        _send(_whole(table))


def _whole(table: firewall.Table) -> list[Message]:
    messages: list[Message] = [(NFT_MSG_NEWTABLE, NLM_F_CREATE, _name(1, table.name))]
    messages += [(NFT_MSG_NEWCHAIN, NLM_F_CREATE, _chain(table.name, chain)) for chain in table.chains]
    messages += [(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, _rule(table.name, rule)) for rule in table.rules]
    return messages


def delete(name: str) -> None:
    try:
        _send([(NFT_MSG_DELTABLE, 0, _name(1, name))])
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise


def exists(name: str) -> bool:
    """Whether the table is there; someone may have flushed the rule set."""
    return bool(_ask(NFT_MSG_GETTABLE, NFPROTO_INET, _name(1, name)))


# Of other programs' tables: only found, and rules put in and taken out that bear a comment of ours.


def policy(family: str, table: str, chain: str) -> str | None:
    """``accept`` or ``drop`` of a base chain, empty for one that is jumped to; None where there is no such chain."""
    for attrs in _ask(NFT_MSG_GETCHAIN, FAMILIES[family], _name(1, table) + _name(3, chain)):
        found = attrs.get(5)
        return "" if found is None else "accept" if struct.unpack(">I", found)[0] else "drop"
    return None


def commented(family: str, table: str, chain: str) -> dict[str, list[int]]:
    """Handles of the chain's rules by their comments; those without one are left out."""
    found: dict[str, list[int]] = {}
    for attrs in _rules(family, table, _name(2, chain)):
        comment = _comment(attrs.get(7, b""))
        if comment:
            found.setdefault(comment, []).append(struct.unpack(">Q", attrs[3])[0])
    return found


def mentions(family: str, table: str, interface: str) -> bool:
    """Whether a rule of the table compares with the interface's name."""
    return any(interface.encode() + b"\0" in attrs.get(4, b"") for attrs in _rules(family, table))


def _rules(family: str, table: str, more: bytes = b"") -> list[dict[int, bytes]]:
    return _ask(NFT_MSG_GETRULE, FAMILIES[family], _name(1, table) + more, flags=NLM_F_DUMP)


def amend(family: str, table: str, chain: str, put: Iterable[tuple[firewall.Rule, str]], drop: Iterable[int]) -> None:
    """Put commented rules before all others of somebody's chain, and take those with these handles out."""
    place = _name(1, table) + _name(2, chain)
    messages: list[Message] = [(NFT_MSG_DELRULE, 0, place + _attr(3, struct.pack(">Q", handle))) for handle in drop]
    for rule, comment in put:
        text = comment.encode() + b"\0"
        userdata = _attr(7, bytes((_COMMENT, len(text))) + text)
        messages.append((NFT_MSG_NEWRULE, NLM_F_CREATE, _rule(table, rule) + userdata))
    if messages:
        _send(messages, family=FAMILIES[family])


# libnftnl's enum nftnl_udata_rule_types: what the kernel keeps for programs, as type, length and value.
_COMMENT = 0


def _comment(userdata: bytes) -> str:
    while len(userdata) >= 2:
        kind, length = userdata[0], userdata[1]
        if kind == _COMMENT:
            return userdata[2 : 2 + length].rstrip(b"\0").decode(errors="replace")
        userdata = userdata[2 + length :]
    return ""


def _ask(kind: int, family: int, payload: bytes, *, flags: int = 0) -> list[dict[int, bytes]]:
    """The attributes of each answer; of none, where there is no such thing."""
    number = NFNL_SUBSYS_NFTABLES << 8 | kind
    answers: list[dict[int, bytes]] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as netlink:
        netlink.settimeout(10)
        netlink.bind((0, 0))
        netlink.send(_message(number, sequence=1, flags=flags, family=family, payload=payload))
        while True:
            data = netlink.recv(1 << 17)
            while len(data) >= 20:
                length, found, *_ = struct.unpack_from("=IHHII", data)
                if found in (NLMSG_ERROR, NLMSG_DONE):
                    return answers
                answers.append(_attributes(data[20:length]))
                data = data[(length + 3) & ~3 :]
            if not flags & NLM_F_DUMP:
                return answers


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & ~NLA_F_NESTED] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found
