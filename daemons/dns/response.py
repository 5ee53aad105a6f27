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
    """What is sent for a query; record sets are with the names that own them."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    authoritative: bool = False
    truncated: bool = False
    answer: Records = field(default_factory=list)
    authority: Records = field(default_factory=list)
    additional: Records = field(default_factory=list)

    def to_wire(self, query: Query, size: int, *, payload: int | None, depth: int) -> bytes:
        """Return the response in at most `size` bytes: without the additional records where they do not fit, and
        truncated (TC) where the answer does not.

        Args:
            payload: our EDNS payload size in bytes, or None for a response without EDNS.
            depth: labels of the longest name in the records other than the query's, for compression.
        """
        for attempt in (self, self._without_additional(), self._emptied()):
            try:
                return attempt._render(query, size, payload, depth)
            except dns.exception.TooBig:
                pass
        raise AssertionError("a header and a question fit into 512 bytes")

    def _without_additional(self) -> Response:
        """These records are a courtesy: RFC 2181, section 9."""
        return Response(self.rcode, self.authoritative, self.truncated, self.answer, self.authority)

    def _emptied(self) -> Response:
        return Response(self.rcode, self.authoritative, truncated=True)

    def _render(self, query: Query, size: int, payload: int | None, depth: int) -> bytes:
        flags = query.flags & (OPCODE | RD) | QR | self.rcode & 0xF
        if self.authoritative:
            flags |= dns.flags.AA
        if self.truncated:
            flags |= dns.flags.TC
        renderer: Any = cast(Any, Renderer)(query.id, flags, size)  # its methods have no annotations
        # As it came: its letters keep their case, and its labels need not be written one by one.
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
            # DO is copied (RFC 3225, section 3); the upper bits of the code are in the first byte.
            do = dns.flags.DO if query.edns is not None and query.edns.do else 0
            renderer.add_edns(0, do | self.rcode >> 4 << 24, payload)
        renderer.write_header()
        return bytes(renderer.get_wire())


def bare(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """Return a header alone, for a message of which more may not be readable."""
    number, flags, *_ = HEADER.unpack_from(wire)
    return HEADER.pack(number, flags & (OPCODE | RD) | QR | rcode, 0, 0, 0, 0)
