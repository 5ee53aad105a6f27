"""Strict parser of DNS queries: header, one question and EDNS (RFC 1035, section 4; RFC 6891).

`dns.message` would parse any records after the question.  For each unknown class and type it tries to import a module,
and caches the pair until the process ends, so one datagram could cost a hundred imports.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dns.name import Name

#: The header: RFC 1035, section 4.1.1.
HEADER = struct.Struct("!6H")

#: Flags of the header: response, operation, recursion desired.
QR, OPCODE, RD = 0x8000, 0x7800, 0x0100

_QUESTION = struct.Struct("!HH")

#: Type, sender's payload size, extended flags, length of the options: RFC 6891, section 6.1.2.
_OPT = struct.Struct("!HHIH")
_OPT_TYPE = 41
_OPTION = struct.Struct("!HH")

#: Bytes of a name: RFC 1035, section 2.3.4.  A length above 63 is a compression pointer, or reserved.
LONGEST_NAME, LONGEST_LABEL = 255, 63


class FormatError(ValueError):
    """A message is not a query with one question; the response is FORMERR."""


@dataclass(frozen=True)
class Edns:
    """The OPT record of a query."""

    version: int
    #: Maximum bytes of a datagram that the sender can receive.
    payload: int
    #: DNSSEC OK: RFC 3225.
    do: bool


@dataclass(frozen=True)
class Query:
    """A query with one question."""

    id: int
    flags: int
    #: The labels of the name, including the root's empty label at the end.
    labels: tuple[bytes, ...]
    rdtype: int
    rdclass: int
    #: The question in wire format.
    question: bytes
    edns: Edns | None

    @classmethod
    def parse(cls, wire: bytes) -> Query:
        """Return the query in `wire`.  Raises `FormatError` for any other message, including one with records other
        than OPT or with trailing bytes."""
        try:
            number, flags, questions, answers, authorities, additional = HEADER.unpack_from(wire)
            if (questions, answers, authorities) != (1, 0, 0) or additional > 1:
                raise FormatError("expected one question and at most one OPT record")
            labels, end = _parse_name(wire, HEADER.size)
            rdtype, rdclass = _QUESTION.unpack_from(wire, end)
            end += _QUESTION.size
            edns = _parse_opt(wire[end:]) if additional else None
        except (struct.error, IndexError):
            raise FormatError("the message is incomplete") from None
        if not additional and len(wire) > end:
            raise FormatError("trailing bytes after the message")
        return cls(number, flags, labels, rdtype, rdclass, wire[HEADER.size : end], edns)

    def offsets(self, longest: int) -> dict[Name, int]:
        """Return the compression table of the question: the offset in the message of its name, and of each parent
        domain of at most `longest` labels.  Without this limit, its size would be quadratic in the number of labels."""
        found, offset = {}, HEADER.size
        for number, label in enumerate(self.labels[:-1]):
            if number == 0 or len(self.labels) - number <= longest:
                found[Name(self.labels[number:])] = offset
            offset += 1 + len(label)
        return found


def _parse_name(wire: bytes, start: int) -> tuple[tuple[bytes, ...], int]:
    """Return the labels of the name at `start` and the offset after it.  Compression pointers are refused: the first
    name of a message has no earlier name to point at."""
    labels, at = [], start
    while length := wire[at]:
        if length > LONGEST_LABEL:
            raise FormatError("a label of more than 63 bytes, or a compression pointer")
        labels.append(wire[at + 1 : at + 1 + length])
        at += 1 + length
    if at + 1 - start > LONGEST_NAME:
        raise FormatError("a name of more than 255 bytes")
    return (*labels, b""), at + 1


def _parse_opt(record: bytes) -> Edns:
    """Return the OPT record.  Options are ignored: RFC 6891, section 6.1.2."""
    kind, payload, flags, length = _OPT.unpack_from(record, 1)
    if record[0] or kind != _OPT_TYPE or len(record) != 1 + _OPT.size + length:
        raise FormatError("expected one OPT record without trailing bytes")
    at = 1 + _OPT.size
    while at < len(record):
        _, size = _OPTION.unpack_from(record, at)
        at += _OPTION.size + size
    if at > len(record):
        raise FormatError("an EDNS option extends beyond its record")
    return Edns(flags >> 16 & 0xFF, payload, bool(flags & 0x8000))
