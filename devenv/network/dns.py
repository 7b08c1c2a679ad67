"""DNS messages, by dnslib: a question out of a datagram, answers into one. No sockets, no names of ours."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import dnslib

A, PTR, AAAA, SRV, ANY = 1, 12, 28, 33, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
PLAIN_SIZE = 512  # what every client takes in a datagram (RFC 1035)
HEADER = 12
# Short, so that resolvers which keep answers (nginx, the JVM) see replicas come and go; zero is misread by some.
TTL = 1


class Question(NamedTuple):
    record: dnslib.DNSRecord
    name: str  # lower case, no dot at the end
    type: int
    size: int  # the largest datagram that the client takes; 0 when it doesn't say (RFC 6891)


class Service(NamedTuple):
    target: str
    port: int
    addresses: tuple[str, ...]


def parse(data: bytes) -> Question:
    """Raises ``ValueError`` for whatever is no query of one question."""
    try:
        record = dnslib.DNSRecord.parse(data)
    except (dnslib.DNSError, ValueError, IndexError, struct.error) as exc:
        raise ValueError(str(exc)) from exc
    if record.header.qr or record.header.opcode or len(record.questions) != 1:
        raise ValueError("not a query of one question")
    sizes = [extra.rclass for extra in record.ar if extra.rtype == dnslib.QTYPE.OPT]
    name = str(record.q.qname).rstrip(".").lower()
    return Question(record, name, record.q.qtype, max(sizes, default=0))


def _reply(question: Question, code: int) -> dnslib.DNSRecord:
    reply = question.record.reply(ra=1, aa=1)
    reply.header.rcode = code
    if question.size:
        reply.add_ar(dnslib.EDNS0(udp_len=4096))
    return reply


def empty(question: Question, code: int = NOERROR) -> bytes:
    return bytes(_reply(question, code).pack())


def malformed(data: bytes) -> bytes:
    """FORMERR with nothing but a header, for what isn't understood; nothing for what has not even that."""
    if len(data) < HEADER or data[2] & 0x80:
        return b""
    return data[:2] + struct.pack(">HHHHH", 0x8000 | (data[2] & 1) << 8 | FORMERR, 0, 0, 0, 0)


def answer_addresses(question: Question, addresses: Sequence[str], *, limit: int) -> bytes:
    """Those of the type that was asked for: maybe none, which says that the name exists all the same."""
    wanted = [item for item in addresses if question.type in ((AAAA, ANY) if ":" in item else (A, ANY))]
    return _fitted(question, [_address(question.record.q.qname, item) for item in wanted], limit)


def answer_name(question: Question, name: str, *, limit: int) -> bytes:
    records = [dnslib.RR(question.record.q.qname, PTR, ttl=TTL, rdata=dnslib.PTR(name))] if name else []
    return _fitted(question, records if question.type in (PTR, ANY) else [], limit)


def answer_services(question: Question, services: Sequence[Service], *, limit: int) -> bytes:
    name = question.record.q.qname
    records = [
        dnslib.RR(name, SRV, ttl=TTL, rdata=dnslib.SRV(priority=0, weight=1, port=item.port, target=item.target))
        for item in services
    ]
    more = [_address(item.target, address) for item in services for address in item.addresses]
    return _fitted(question, records, limit, more)


def _address(name: str | dnslib.DNSLabel, text: str) -> dnslib.RR:
    if ":" in text:
        return dnslib.RR(name, AAAA, ttl=TTL, rdata=dnslib.AAAA(text))
    return dnslib.RR(name, A, ttl=TTL, rdata=dnslib.A(text))


def _fitted(question: Question, records: Sequence[dnslib.RR], limit: int, more: Sequence[dnslib.RR] = ()) -> bytes:
    """As much as fits. Cut off, it still holds addresses: some old resolvers never ask again over TCP."""
    left = len(records)
    while True:
        reply = _reply(question, NOERROR)
        reply.add_answer(*records[:left])
        if left == len(records):
            reply.add_ar(*more)
        else:
            reply.header.tc = 1
        data = bytes(reply.pack())
        if len(data) <= limit or left == 0:
            return data
        if more:
            # What nobody asked for goes first, and its lack is no loss (RFC 2181).
            more = ()
        else:
            left = left * limit // len(data)


def matches(query: bytes, reply: bytes) -> bool:
    """Whether it answers this query: the same number and the same question, to the letter but for its case."""
    end = _question_end(query)
    return (
        len(reply) >= end
        and reply[:2] == query[:2]
        and bool(reply[2] & 0x80)
        and reply[HEADER:end].lower() == query[HEADER:end].lower()
    )


def _question_end(query: bytes) -> int:
    at = HEADER
    while at < len(query) and query[at]:
        at += query[at] + 1
    return at + 5


def code(reply: bytes) -> int:
    return reply[3] & 15
