"""DNS messages: what is asked, what is answered, and what is no question at all."""

from __future__ import annotations

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devenv.network import dns

ADDRESSES = ["10.0.0.2", "10.0.0.3", "fd00::2"]


def ask(name: str, kind: str, *, size: int = 0) -> dns.Question:
    record = dnslib.DNSRecord.question(name, kind)
    if size:
        record.add_ar(dnslib.EDNS0(udp_len=size))
    return dns.parse(record.pack())


def answered(data: bytes) -> list[str]:
    return [str(record.rdata) for record in dnslib.DNSRecord.parse(data).rr]


def test_names_are_in_lower_case_without_a_dot_at_the_end() -> None:
    assert ask("DB.Example.", "A").name == "db.example"


def test_only_the_family_that_was_asked_for() -> None:
    assert answered(dns.answer_addresses(ask("db", "A"), ADDRESSES, limit=512)) == ["10.0.0.2", "10.0.0.3"]
    assert answered(dns.answer_addresses(ask("db", "AAAA"), ADDRESSES, limit=512)) == ["fd00::2"]
    none = dns.answer_addresses(ask("db", "MX"), ADDRESSES, limit=512)
    # It is there, and has none of that: not the same as a name that doesn't exist.
    assert (answered(none), dns.code(none)) == ([], dns.NOERROR)


def test_what_does_not_fit_is_cut_and_says_so() -> None:
    many = [f"10.0.1.{number}" for number in range(100)]
    cut = dns.answer_addresses(ask("db", "A"), many, limit=512)
    reply = dnslib.DNSRecord.parse(cut)
    assert len(cut) <= 512
    assert reply.header.tc
    assert len(reply.rr) > 20
    whole = dnslib.DNSRecord.parse(dns.answer_addresses(ask("db", "A"), many, limit=65535))
    assert (whole.header.tc, len(whole.rr)) == (0, 100)


def test_edns_is_answered_with_edns_and_only_then() -> None:
    assert ask("db", "A", size=1232).size == 1232
    with_it = dnslib.DNSRecord.parse(dns.empty(ask("db", "A", size=1232)))
    without = dnslib.DNSRecord.parse(dns.empty(ask("db", "A")))
    assert [record.rtype for record in with_it.ar] == [dnslib.QTYPE.OPT]
    assert without.ar == []


def test_services_come_with_the_addresses_of_their_targets() -> None:
    service = dns.Service("shop-api-1.shop_default", 8080, ("10.0.0.3", "fd00::3"))
    reply = dnslib.DNSRecord.parse(dns.answer_services(ask("_http._tcp.api", "SRV"), [service], limit=512))
    assert [(record.rdata.port, str(record.rdata.target)) for record in reply.rr] == [
        (8080, "shop-api-1.shop_default.")
    ]
    assert sorted(str(record.rdata) for record in reply.ar) == ["10.0.0.3", "fd00::3"]


@given(st.binary(max_size=80))
def test_anything_at_all_is_a_question_or_refused(data: bytes) -> None:
    try:
        dns.parse(data)
    except ValueError:
        refusal = dns.malformed(data)
        assert refusal == b"" or (len(refusal) == 12 and refusal[:2] == data[:2])


@given(st.binary(max_size=60), st.integers(min_value=12))
def test_a_question_with_a_broken_end_is_refused_cleanly(tail: bytes, at: int) -> None:
    whole = dnslib.DNSRecord.question("db.example", "A").pack()
    try:
        dns.parse(whole[: at % len(whole)] + tail)
    except ValueError:
        pass


def test_a_reply_is_no_question() -> None:
    reply = dns.empty(ask("db", "A"))
    with pytest.raises(ValueError, match="query"):
        dns.parse(reply)
    # Two servers that answer each other's errors would never end.
    assert dns.malformed(reply) == b""


def test_an_answer_has_to_be_to_the_question() -> None:
    query = dnslib.DNSRecord.question("db.example", "A")
    reply = query.reply().pack()
    asked = query.pack()
    assert dns.matches(asked, reply)
    assert dns.matches(asked, reply.replace(b"example", b"EXAMPLE"))
    assert not dns.matches(asked, asked)
    assert not dns.matches(asked, bytes([reply[0] ^ 1]) + reply[1:])
    assert not dns.matches(asked, reply.replace(b"example", b"exbmple"))
    assert not dns.matches(asked, reply[:14])
