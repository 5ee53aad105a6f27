"""DNS queries: header, one question and EDNS (RFC 1035, section 4; RFC 6891), read strictly.

`dns.message` would read any records behind the question.  For each class and type that it does not know it looks for a
module and remembers the pair until the process ends, so one datagram could cost a hundred imports.
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
    """A message is not a query of one question: FORMERR."""


@dataclass(frozen=True)
class Edns:
    """The OPT record of a query."""

    version: int
    #: Bytes of the largest datagram that the sender can receive.
    payload: int
    #: DNSSEC OK: RFC 3225.
    do: bool


@dataclass(frozen=True)
class Query:
    """A query with one question."""

    id: int
    flags: int
    #: The labels of the name; the last one, the root's, is empty.
    labels: tuple[bytes, ...]
    rdtype: int
    rdclass: int
    #: The question in wire format.
    question: bytes
    edns: Edns | None

    @classmethod
    def parse(cls, wire: bytes) -> Query:
        """Return the query in `wire`.  Raises `FormatError` for any other message, also for one with records other than
        OPT or with bytes behind the end."""
        try:
            number, flags, questions, answers, authorities, additional = HEADER.unpack_from(wire)
            if (questions, answers, authorities) != (1, 0, 0) or additional > 1:
                raise FormatError("one question and at most one OPT record are expected")
            labels, end = _parse_name(wire, HEADER.size)
            rdtype, rdclass = _QUESTION.unpack_from(wire, end)
            end += _QUESTION.size
            edns = _parse_opt(wire[end:]) if additional else None
        except (struct.error, IndexError):
            raise FormatError("the message ends too early") from None
        if not additional and len(wire) > end:
            raise FormatError("bytes behind the end of the message")
        return cls(number, flags, labels, rdtype, rdclass, wire[HEADER.size : end], edns)

    def offsets(self, longest: int) -> dict[Name, int]:
        """Return the compression table of the question: the name and those above it of at most `longest` labels, with
        their offsets in the message.  Without the bound, its size would be quadratic in the number of labels."""
        found, offset = {}, HEADER.size
        for number, label in enumerate(self.labels[:-1]):
            if number == 0 or len(self.labels) - number <= longest:
                found[Name(self.labels[number:])] = offset
            offset += 1 + len(label)
        return found


def _parse_name(wire: bytes, start: int) -> tuple[tuple[bytes, ...], int]:
    """Return the labels of the name at `start` and the offset behind it.  Nothing comes before the first name of a
    message, so compression has nothing to point at."""
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
    """Return the OPT record.  Options are not looked at: RFC 6891, section 6.1.2, has unknown ones ignored."""
    kind, payload, flags, length = _OPT.unpack_from(record, 1)
    if record[0] or kind != _OPT_TYPE or len(record) != 1 + _OPT.size + length:
        raise FormatError("one OPT record, and nothing behind it, is expected")
    at = 1 + _OPT.size
    while at < len(record):
        _, size = _OPTION.unpack_from(record, at)
        at += _OPTION.size + size
    if at > len(record):
        raise FormatError("an EDNS option is longer than its record")
    return Edns(flags >> 16 & 0xFF, payload, bool(flags & 0x8000))
