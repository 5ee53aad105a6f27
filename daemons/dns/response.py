"""DNS responses: the records for a query, and their wire format within a size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import dns.exception
import dns.flags
import dns.rcode
import dns.rdataset
from dns.name import Name
from dns.renderer import ADDITIONAL, ANSWER, AUTHORITY, Renderer

from daemons.dns.query import HEADER, OPCODE, QR, RD, Query

#: Bytes of an OPT record without options: RFC 6891, section 6.1.2.
_OPT_SIZE = 11

Records = list[tuple[Name, dns.rdataset.Rdataset]]


@dataclass
class Response:
    """The response to a query: record sets with their owner names."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    authoritative: bool = False
    truncated: bool = False
    answer: Records = field(default_factory=list)
    authority: Records = field(default_factory=list)
    additional: Records = field(default_factory=list)

    def to_wire(self, query: Query, size: int, *, payload: int | None, depth: int) -> bytes:
        """Return the response in at most `size` bytes: without the additional records if they do not fit, and truncated
        (TC) if the answer does not.

        Args:
            payload: our EDNS payload size in bytes, or None for a response without EDNS.
            depth: number of labels in the longest name of the records other than the query's, for compression.
        """
        attempts = [self, Response(self.rcode, self.authoritative, truncated=True)]
        if self.answer:
            # With an answer, additional records are optional (RFC 2181, section 9).  In a referral they are glue, so
            # the response is truncated without them: RFC 9471, section 3.
            attempts.insert(1, Response(self.rcode, self.authoritative, self.truncated, self.answer, self.authority))
        for attempt in attempts:
            try:
                return attempt._render(query, size, payload, depth)
            except dns.exception.TooBig:
                pass
        raise AssertionError("a header and a question fit into 512 bytes")

    def _render(self, query: Query, size: int, payload: int | None, depth: int) -> bytes:
        flags = query.flags & (OPCODE | RD) | QR | self.rcode & 0xF
        if self.authoritative:
            flags |= dns.flags.AA
        if self.truncated:
            flags |= dns.flags.TC
        renderer: Any = cast(Any, Renderer)(query.id, flags, size)  # its methods have no annotations
        # The question is copied: letters keep their case, and labels need not be rendered one by one.
        renderer.output.write(query.question)
        renderer.counts[0] = 1
        renderer.compress.update(query.offsets(depth))
        with_edns = query.edns is not None and payload is not None
        if with_edns:
            renderer.reserve(_OPT_SIZE)
        for section, records in ((ANSWER, self.answer), (AUTHORITY, self.authority), (ADDITIONAL, self.additional)):
            for name, rdataset in records:
                renderer.add_rdataset(section, name, rdataset)
        if with_edns:
            renderer.release_reserved()
            # DO is copied (RFC 3225, section 3); the first byte has the upper bits of the code.
            do = dns.flags.DO if query.edns is not None and query.edns.do else 0
            renderer.add_edns(0, do | self.rcode >> 4 << 24, payload)
        renderer.write_header()
        return bytes(renderer.get_wire())


def bare(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """Return a response of a header alone, for a message whose question may be malformed."""
    number, flags, *_ = HEADER.unpack_from(wire)
    return HEADER.pack(number, flags & (OPCODE | RD) | QR | rcode, 0, 0, 0, 0)
