"""Authoritative name server for the configured zones.

[daemon]
service = dns
listen = udp://127.0.0.1:1053 tcp://127.0.0.1:1053

[dns]
zone = conf/camelot.zone conf/127.zone
"""

from __future__ import annotations

from dataclasses import dataclass

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
from dns.name import Name
from dns.rdataclass import RdataClass
from dns.rdataset import Rdataset
from dns.rdatatype import RdataType

from daemons import Framing, LengthPrefixed, Peer, Service, Talk, Whole, setting
from daemons.dns.query import HEADER, OPCODE, QR, FormatError, Query
from daemons.dns.response import Response, bare
from daemons.dns.zones import ZONES, Labels, Zone, suffix

#: Bytes of the longest query; RFC 1035 has one question, and EDNS (RFC 6891) little more.
LONGEST_QUERY = 1232

#: Bytes of a response over UDP: 512 unless the client advertises more (RFC 1035, section 2.3.4; RFC 6891, section
#: 6.2.5), and at most 1232, which is never fragmented: IPv6's minimum MTU of 1280 less 48 bytes of headers.
SHORTEST_PAYLOAD, PAYLOAD = 512, 1232

#: Aliases followed for one response; a resolver continues from the last one.
LONGEST_CHAIN = 8


class Dns(Service):
    framing: Framing = LengthPrefixed(prefix="!H", limit=LONGEST_QUERY)  # over TCP: RFC 1035, section 4.2.2
    questions = (b"camelot.test", b"camelot.test MX")
    answers = LengthPrefixed(prefix="!H", limit=65_535)
    same_port = True  # resolvers may ask from port 53; a response (QR) is never answered

    @dataclass(frozen=True)
    class Options:
        """The section [dns]."""

        zone: tuple[Zone, ...] = setting(ZONES, (), "Zone files, relative to the project's folder, read at the start.")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or self.Options())
        if not self.options.zone:
            raise TypeError("Dns: no zone; write [dns] zone = FILE, for example conf/camelot.zone")
        self._zones = {zone.origin: zone for zone in self.options.zone}
        self._longest_origin = max(map(len, self._zones))
        self._depth = max(zone.depth for zone in self.options.zone)

    def talk(self, peer: Peer) -> Talk:
        """Answer queries; close the connection after a message that is not a query."""
        reply = None
        while reply != b"":
            reply = self.respond((yield reply))
        return None

    def respond(self, query: bytes) -> bytes:
        """Return the response to a query, or to any malformed message; empty bytes for a response, since two servers
        would otherwise answer each other forever."""
        if len(query) < HEADER.size or (flags := HEADER.unpack_from(query)[1]) & QR:
            return b""
        if flags & OPCODE:
            return bare(query, dns.rcode.NOTIMP)
        try:
            asked = Query.parse(query)
        except FormatError:
            return bare(query, dns.rcode.FORMERR)
        response = Response()
        if asked.edns is not None and asked.edns.version > 0:
            response.rcode = dns.rcode.BADVERS  # RFC 6891, section 6.1.3
        elif asked.rdclass != RdataClass.IN or asked.rdtype in (RdataType.AXFR, RdataType.IXFR):
            response.rcode = dns.rcode.REFUSED
        elif asked.rdtype != RdataType.ANY and dns.rdatatype.is_metatype(RdataType.make(asked.rdtype)):
            response.rcode = dns.rcode.NOTIMP
        else:
            self._answer(asked.labels, asked.rdtype, response)
        return response.to_wire(asked, self._longest(asked), payload=LONGEST_QUERY, depth=self._depth)

    def _answer(self, labels: Labels, rdtype: int, response: Response) -> None:
        """Fill in `response`: the algorithm of RFC 1034, section 4.3.2, without recursion."""
        for passed in range(LONGEST_CHAIN + 1):
            zone = self._zone_of(labels, rdtype)
            if zone is None:
                if not passed:
                    response.rcode = dns.rcode.REFUSED
                return  # an alias for a name in a zone that is not served here
            if (cut := zone.cut(labels, rdtype)) is not None:
                servers = zone.nodes[cut][RdataType.NS]
                response.authority.append((cut, servers))
                _add_addresses(response, zone, servers)
                return
            response.authoritative = True
            node = zone.node(labels)
            if node is None:
                response.rcode = dns.rcode.NXDOMAIN  # of the last name: RFC 6604, section 3
                response.authority.append((zone.origin, zone.negative))
                return
            alias = node.get(RdataType.CNAME)
            if alias is None or rdtype in (RdataType.CNAME, RdataType.ANY):
                # For ANY, a single record set suffices: RFC 8482, section 4.1.
                found = node.get(min(node) if node and rdtype == RdataType.ANY else RdataType.make(rdtype))
                if found is None:
                    response.authority.append((zone.origin, zone.negative))
                else:
                    response.answer.append((Name(labels), found))
                    _add_addresses(response, zone, found)
                return
            response.answer.append((Name(labels), alias))
            target: Name = alias[0].target
            if any(name == target for name, _ in response.answer):
                return  # a loop
            labels = target.labels

    def _zone_of(self, labels: Labels, rdtype: int) -> Zone | None:
        """Return the zone that contains the name.  DS records are in the parent zone, if that is served here: RFC 4035,
        section 3.1.4.1."""
        if rdtype == RdataType.DS and len(labels) > 1 and (above := self._zone_of(labels[1:], 0)) is not None:
            return above
        found = (self._zones.get(suffix(labels, n)) for n in range(min(len(labels), self._longest_origin), 0, -1))
        return next((zone for zone in found if zone is not None), None)

    def _longest(self, query: Query) -> int:
        """Return the maximum number of bytes of a response."""
        return 65_535

    @classmethod
    def question(cls, word: bytes) -> bytes:
        """Return the query for ``NAME``, with type A, or for ``NAME TYPE``.  Raises `ValueError`."""
        try:
            name, _, kind = word.decode().partition(" ")
            return dns.message.make_query(name, kind.strip() or "A", use_edns=0, payload=PAYLOAD, flags=0).to_wire()
        except (dns.exception.DNSException, ValueError) as error:
            raise ValueError(f"{word!r} is not a question; write NAME or 'NAME TYPE'") from error

    @classmethod
    def shown(cls, answer: bytes) -> bytes:
        """Return a response as text, with unprintable bytes as ``\\027``."""
        try:
            return dns.message.from_wire(answer).to_text().encode()
        except dns.exception.DNSException as error:
            return f"no DNS message: {error}".encode()

    @classmethod
    def matches(cls, question: bytes, answer: bytes) -> bool:
        """Return whether `answer` is a response with the id of the query."""
        return len(answer) >= HEADER.size and answer[:2] == question[:2] and bool(answer[2] & 0x80)


class DnsOverUdp(Dns):
    """The service over UDP.  A response above the size limit is truncated (TC), so that the client retries over TCP."""

    framing = Whole(limit=LONGEST_QUERY)

    def truncated(self, datagram: bytes) -> bytes:
        """Return a truncated response of no more bytes than the query, so that a client with a genuine source address
        retries over TCP."""
        try:
            query = Query.parse(datagram)
        except FormatError:
            return bare(datagram, dns.rcode.FORMERR)
        response = Response(authoritative=True, truncated=True)
        return response.to_wire(query, SHORTEST_PAYLOAD, payload=None, depth=0)

    def _longest(self, query: Query) -> int:
        asked = SHORTEST_PAYLOAD if query.edns is None else query.edns.payload
        return min(max(asked, SHORTEST_PAYLOAD), PAYLOAD)


Dns.datagrams = DnsOverUdp


def _add_addresses(response: Response, zone: Zone, records: Rdataset) -> None:
    """Add the zone's addresses of the servers named in the records, which the client would query next."""
    which = {RdataType.MX: "exchange", RdataType.NS: "target", RdataType.SRV: "target"}.get(records.rdtype)
    hosts: set[Name] = {getattr(each, which) for each in records} if which else set()
    for host in hosts:
        node = zone.nodes.get(host, {})
        response.additional += [(host, node[kind]) for kind in (RdataType.A, RdataType.AAAA) if kind in node]
