"""Tells the records of the zones it is given, as an authoritative name server does.

[daemon]
service = dns
listen = udp://127.0.0.1:1053 tcp://127.0.0.1:1053

[dns]
zone = conf/camelot.zone conf/127.zone
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.tokenizer
import dns.zone
import dns.zonefile
from dns.name import Name
from dns.rdatatype import RdataType

from daemons import Framing, Kind, LengthPrefixed, Service, Talk, Whole, setting

#: Octets that a query may have; RFC 1035 has one question, and EDNS (RFC 6891) little more.
LONGEST_QUERY = 1232

#: Octets that an answer may have over UDP: as many as its asker takes, 512 unless it says so (RFC 1035, section 2.3.4;
#: RFC 6891, section 6.2.5), and never more than what passes anywhere in one piece: 1280, the least that IPv6 carries,
#: less 48 for the headers.
SHORTEST_PAYLOAD, PAYLOAD = 512, 1232

#: How many aliases are followed for one answer; who asked can go on from there.
LONGEST_CHAIN = 8

#: The header, RFC 1035, section 4.1.1; in its flags QR, and what an answer repeats: the opcode and RD.
HEADER = struct.Struct("!6H")
QR, OPCODE, REPEATED = 0x8000, 0x7800, 0x7900

Node = Mapping[RdataType, dns.rdataset.Rdataset]


@dataclass(frozen=True)
class Zone:
    """A zone as its file has it (RFC 1035, section 5)."""

    path: str
    origin: Name
    nodes: Mapping[Name, Node]
    #: Those, and the names above them that have no records (RFC 4592, section 2.2.2).
    names: frozenset[Name]

    def node(self, name: Name) -> Node | None:
        """The records of `name`, perhaps by a wildcard (RFC 4592); None where there is no such name."""
        if name in self.names:
            return self.nodes.get(name, {})
        encloser = name.parent()
        while encloser not in self.names:
            encloser = encloser.parent()
        return self.nodes.get(Name((b"*", *encloser.labels)))

    def cut(self, name: Name) -> Name | None:
        """Where, on the way to `name`, the zone of another begins."""
        for depth in range(len(self.origin) + 1, len(name) + 1):
            above = name.split(depth)[1]
            if RdataType.NS in self.nodes.get(above, {}):
                return above
        return None


class _Reader(dns.zonefile.Reader):
    def _eat_line(self) -> None:
        """Where it would pass over a name that lies outside."""
        raise ValueError("the name does not lie in the zone")


def read_zone(path: str) -> Zone:
    """Read a zone file.  Raises `ValueError`, with the line where one is wrong."""
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at octet {error.start}") from error
    found = _parsed(text)
    if isinstance(found, str):
        # The parser knows the line only roughly; it is the first up to which the same is wrong.
        lines = text.splitlines(keepends=True)
        number = 1 + bisect_left(range(len(lines)), True, key=lambda end: _parsed("".join(lines[: end + 1])) == found)
        line = " ".join(lines[number - 1].partition(";")[0].split())
        expected = "NAME [TTL] [IN] TYPE DATA is expected, or $ORIGIN NAME, or $TTL TIME"
        raise ValueError(f"{path} line {number}: {line!r}: {found}; {expected}")
    nodes = {name: {each.rdtype: each for each in node} for name, node in found.nodes.items() if len(node)}
    origin = found.origin
    if origin is None or not {RdataType.SOA, RdataType.NS} <= nodes.get(origin, {}).keys():
        whose = "below a line $ORIGIN NAME." if origin is None else f"for {origin}"
        raise ValueError(f"{path}: an SOA record and an NS record are expected, {whose}")
    for name, node in nodes.items():
        if RdataType.DNAME in node:
            raise ValueError(f"{path}: {name}: DNAME is not served; write a CNAME for each name")
    names = {name.split(depth)[1] for name in nodes for depth in range(len(origin), len(name) + 1)}
    return Zone(path, origin, nodes, frozenset(names))


def _parsed(text: str) -> dns.zone.Zone | str:
    """The records of a zone file, or what is wrong with the first that is."""
    zone = dns.zone.Zone(None, relativize=False)
    try:
        with zone.writer(True) as records:
            tokens = dns.tokenizer.Tokenizer(text)
            _Reader(tokens, zone.rdclass, records, allow_directives=("$ORIGIN", "$TTL")).read()
    except (dns.exception.DNSException, ValueError) as error:
        reason = str(error).removeprefix("<string>:").lstrip("0123456789").removeprefix(": ").rstrip(".")
        return "not a record" if reason in ("", "Text input is malformed") else reason
    return zone


def _zones(text: str) -> tuple[Zone, ...]:
    zones = tuple(map(read_zone, text.split()))
    if len({zone.origin for zone in zones}) < len(zones):
        raise ValueError("two files for one zone; one for each is expected")
    return zones


ZONES: Kind[tuple[Zone, ...]] = Kind(_zones, lambda zones: " ".join(zone.path for zone in zones), "files")


class Dns(Service):
    framing: Framing = LengthPrefixed(prefix="!H", limit=LONGEST_QUERY)  # over TCP: RFC 1035, section 4.2.2
    questions = (b"camelot.test", b"camelot.test MX")
    answers = LengthPrefixed(prefix="!H", limit=65_535)
    same_port = True  # resolvers may ask from port 53; a response (QR) is never answered

    @dataclass(frozen=True)
    class Options:
        """The section [dns]."""

        zone: tuple[Zone, ...] = setting(ZONES, (), "the zone files, from the project's folder; read at the start")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or self.Options())
        if not self.options.zone:
            raise TypeError("Dns: no zone; write [dns] zone = FILE; conf/camelot.zone is one")
        self._zones = {zone.origin: zone for zone in self.options.zone}

    def talk(self) -> Talk:
        """Answer until there is something that is not answered; then hang up."""
        reply = None
        while reply != b"":
            reply = self.respond((yield reply))
        return None

    def respond(self, query: bytes) -> bytes:
        """An answer to any octets, or none: what is no query is not answered, lest two servers answer each other."""
        if len(query) < HEADER.size or (flags := HEADER.unpack_from(query)[1]) & QR:
            return b""
        if flags & OPCODE:
            return _bare(query, dns.rcode.NOTIMP)
        try:
            message = dns.message.from_wire(query)
        except Exception:  # whatever a parser stumbles over, it is the asker's fault
            return _bare(query, dns.rcode.FORMERR)
        if len(message.question) != 1:
            return _bare(query, dns.rcode.FORMERR)
        reply = dns.message.make_response(message, our_payload=LONGEST_QUERY)
        (question,) = message.question
        if message.edns > 0:
            reply.set_rcode(dns.rcode.BADVERS)  # RFC 6891, section 6.1.3
        elif question.rdclass != dns.rdataclass.IN or question.rdtype in (RdataType.AXFR, RdataType.IXFR):
            reply.set_rcode(dns.rcode.REFUSED)
        elif dns.rdatatype.is_metatype(question.rdtype) and question.rdtype != RdataType.ANY:
            reply.set_rcode(dns.rcode.NOTIMP)
        else:
            self._answer(question.name, question.rdtype, reply)
        return self._wire(reply)

    def _answer(self, name: Name, kind: RdataType, reply: dns.message.Message) -> None:
        """RFC 1034, section 4.3.2, without recursion."""
        for passed in range(LONGEST_CHAIN + 1):
            zone = self._zone_of(name)
            if zone is None:
                if not passed:
                    reply.set_rcode(dns.rcode.REFUSED)
                return  # an alias for a name of others
            if (cut := zone.cut(name)) is not None:
                servers = zone.nodes[cut][RdataType.NS]
                reply.authority.append(_rrset(cut, servers))
                _add_addresses(reply, zone, servers)
                return
            reply.flags |= dns.flags.AA
            node = zone.node(name)
            if node is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)  # of the last name: RFC 6604, section 3
                _add_soa(reply, zone)
                return
            alias = node.get(RdataType.CNAME)
            if alias is None or kind in (RdataType.CNAME, RdataType.ANY):
                # Of ANY, one type will do: RFC 8482, section 4.1.
                found = node.get(min(node) if node and kind == RdataType.ANY else kind)
                if found is None:
                    _add_soa(reply, zone)
                else:
                    reply.answer.append(_rrset(name, found))
                    _add_addresses(reply, zone, found)
                return
            reply.answer.append(_rrset(name, alias))
            name = alias[0].target
            if any(each.name == name for each in reply.answer):
                return  # a loop, which is seen from what was said

    def _zone_of(self, name: Name) -> Zone | None:
        found = (self._zones.get(name.split(depth)[1]) for depth in range(len(name), 0, -1))
        return next((zone for zone in found if zone is not None), None)

    def _longest(self, reply: dns.message.Message) -> int:
        return 65_535  # octets

    def _wire(self, reply: dns.message.Message) -> bytes:
        longest = self._longest(reply)
        try:
            return reply.to_wire(max_size=longest)
        except dns.exception.TooBig:
            pass
        if reply.answer and reply.additional:
            reply.additional.clear()  # it is a kindness: RFC 2181, section 9
            return self._wire(reply)
        for section in (reply.answer, reply.authority, reply.additional):
            section.clear()
        reply.flags |= dns.flags.TC
        return reply.to_wire(max_size=longest)

    @classmethod
    def question(cls, word: bytes) -> bytes:
        """``NAME``, for its addresses, or ``NAME TYPE``.  Raises `ValueError`."""
        try:
            name, _, kind = word.decode().partition(" ")
            return dns.message.make_query(name, kind.strip() or "A", use_edns=0, payload=PAYLOAD, flags=0).to_wire()
        except (dns.exception.DNSException, ValueError) as error:
            raise ValueError(f"{word!r} is no question; write NAME, or 'NAME TYPE'") from error

    @classmethod
    def shown(cls, answer: bytes) -> bytes:
        """As text; octets that are not printable are written ``\\027``."""
        try:
            return dns.message.from_wire(answer).to_text().encode()
        except dns.exception.DNSException as error:
            return f"no DNS message: {error}".encode()

    @classmethod
    def matches(cls, question: bytes, answer: bytes) -> bool:
        """Whether it is an answer, and has the id of the question."""
        return len(answer) >= HEADER.size and answer[:2] == question[:2] and bool(answer[2] & 0x80)


class DnsOverUdp(Dns):
    """What does not fit into a datagram is asked for again over TCP (TC)."""

    framing = Whole(limit=LONGEST_QUERY)

    def truncated(self, datagram: bytes) -> bytes:
        """To who may have been forged: that there is more, with TC and in no more octets than the query has."""
        reply = dns.message.make_response(dns.message.from_wire(datagram))
        reply.use_edns(False)
        reply.flags |= dns.flags.AA | dns.flags.TC
        return reply.to_wire()

    def _longest(self, reply: dns.message.Message) -> int:
        return min(max(reply.request_payload, SHORTEST_PAYLOAD), PAYLOAD)


Dns.datagrams = DnsOverUdp


def _bare(query: bytes, code: dns.rcode.Rcode) -> bytes:
    """A header alone, to a query of which more may not be readable."""
    number, flags, *_ = HEADER.unpack_from(query)
    return HEADER.pack(number, flags & REPEATED | QR | code, 0, 0, 0, 0)


def _rrset(name: Name, records: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, records.ttl, list(records))


def _add_soa(reply: dns.message.Message, zone: Zone) -> None:
    """For how long it is known that there is none: RFC 2308, section 3."""
    soa = _rrset(zone.origin, zone.nodes[zone.origin][RdataType.SOA])
    soa.ttl = min(soa.ttl, soa[0].minimum)
    reply.authority.append(soa)


def _add_addresses(reply: dns.message.Message, zone: Zone, records: dns.rdataset.Rdataset) -> None:
    """Those of the servers that the records name, as far as the zone has them: they would be asked for next."""
    which = {RdataType.MX: "exchange", RdataType.NS: "target", RdataType.SRV: "target"}.get(records.rdtype)
    hosts: set[Name] = {getattr(each, which) for each in records} if which else set()
    for host in hosts:
        node = zone.nodes.get(host, {})
        reply.additional += [_rrset(host, node[kind]) for kind in (RdataType.A, RdataType.AAAA) if kind in node]
