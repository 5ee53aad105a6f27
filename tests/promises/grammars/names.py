"""DNS, over UDP and TCP."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from daemons.dns import LONGEST_QUERY, Dns, DnsOverUdp
from daemons.dns.zones import ZONES
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service_binding import ServiceBinding
from tests.promises.grammars.grammar import Feed, Grammar, converse, filled, word

CONF = Path(__file__).parents[3] / "conf"
NAME = b"\7camelot\4test\0"


def options() -> Dns.Options:
    return Dns.Options(zone=ZONES.parse(f"{CONF}/camelot.zone {CONF}/127.zone"))


def serve_udp(folder: Path) -> Feed:
    service = DnsOverUdp(options())
    return lambda datagram: (service.respond(datagram), service.truncated(datagram))


def serve_tcp(folder: Path) -> Feed:
    service = Dns(options())
    binding = ServiceBinding(service)
    return lambda query: converse(Conversation(service, binding), struct.pack("!H", len(query)) + query)


def query(name: bytes, *records: bytes, rdtype: int = 1, rdclass: int = 1, flags: int = 0x100) -> bytes:
    header = struct.pack("!6H", 1, flags, 1, 0, 0, len(records))
    return header + name + struct.pack("!HH", rdtype, rdclass) + b"".join(records)


def record(rdtype: int, rdclass: int, data: bytes = b"", name: bytes = b"\0", ttl: int = 0) -> bytes:
    return name + struct.pack("!HHIH", rdtype, rdclass, ttl, len(data)) + data


def labels(text: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in text.split(".")) + b"\0"


def unlike(number: int) -> bytes:
    low, high = number % 65_536, 65_535 - number % 65_536
    option = struct.pack("!HH", low, 8) + word(number, 8).encode()
    kinds = [
        query(NAME, *(record((number * 109 + n) % 65_536, 300 + number % 60_000) for n in range(109))),
        query(NAME, record(low, high)),
        query(NAME, rdtype=low),
        query(NAME, rdclass=low),
        query(NAME, rdtype=low, rdclass=high),
        query(NAME, flags=low & 0x7FFF),
        query(labels(f"{word(number, 63)}.{word(number, 63)}.{word(number, 50)}.camelot.test"), rdtype=low),
        query(labels(f"{word(number, 60)}.example")),
        query(NAME, record(41, 1232, option, ttl=number % 2**32)),
        query(NAME, record(41, low, option * 90)),
        word(number, 200).encode(),
    ]
    return kinds[number % len(kinds)]


def adversarial(size: int) -> Mapping[str, bytes]:
    header = struct.pack("!6H", 1, 0x100, 1, 0, 0, 0)
    many = labels("a." * 119 + "camelot")
    return {
        "records": query(NAME, *(record(60_000 + n, 300 + n) for n in range(109))),
        "records that say they are few": query(NAME, *(record(60_000 + n, 300 + n) for n in range(1)), b"\0" * 900),
        "labels": query(many),
        "labels in a zone": query(labels("a." * 115 + "camelot.test")),
        "labels below a delegation": query(labels("a." * 110 + "forest.camelot.test")),
        "labels for a wildcard": query(labels("a." * 107 + "knight.camelot.test"), rdtype=255),
        "labels and DS": query(labels("a." * 115 + "camelot.test"), rdtype=43),
        "pointers": filled(header, b"\xc0\x0c", b"", size),
        "pointers to pointers": header + b"".join(struct.pack("!H", 0xC000 + 14 + n) for n in range(0, 1200, 2)),
        "longest labels": header + (b"\x3f" + b"a" * 63) * 18,
        "options": query(NAME, record(41, 1232, b"\0\x0a\0\0" * 280)),
        "options that are client subnets": query(NAME, record(41, 1232, b"\0\x08\0\x04\0\1\0\0" * 140)),
        "aliases": query(labels("ni.camelot.test")),
        "many addresses": query(NAME, rdtype=15),
        "noise": b"\1\2\1\0" + bytes(range(256)) * 4,
    }


def honest(size: int) -> bytes:
    """Return a query for a name that does not exist, with the padding of RFC 7830."""
    asked = query(labels("absent.camelot.test"), record(41, 1232, b""))
    padding = size - len(asked) - 4
    return query(labels("absent.camelot.test"), record(41, 1232, struct.pack("!HH", 12, padding) + bytes(padding)))


GRAMMARS = (
    Grammar("DNS over UDP", serve_udp, unlike, honest, adversarial, LONGEST_QUERY),
    Grammar("DNS over TCP", serve_tcp, unlike, honest, adversarial, LONGEST_QUERY),
)
