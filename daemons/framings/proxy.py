"""The PROXY protocol, versions 1 and 2: what a proxy says, before all else, about whom it speaks for.

HAProxy's ``doc/proxy-protocol.txt`` is the specification; the quotations are from there.  The contract:

    *For any bytes, cut anywhere, a decoder comes to one header, or to one error, or waits for more; it never
    holds more than `LIMIT` octets, and never takes one that is not the header's.*
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from daemons.framings.base import FramingError, Incomplete, Malformed, Oversize

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIRST_WORD = b"PROXY "

#: "If the CRLF sequence is not found in the first 107 characters, the receiver should declare the line invalid."
LINE_LIMIT = 107

#: Octets of a whole header of version 2.  Its length field could say 65,551; what stands behind the addresses
#: are notes (TLVs) nobody reads here, and nginx, too, takes no more of them than this.
LIMIT = 4096

#: The shortest header there is: ``PROXY UNKNOWN`` and a line end.
SHORTEST = 15

_FIXED = 16  # octets of version 2 before its addresses

_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(
    rb"PROXY (?:TCP4 ([0-9.]{7,15}) ([0-9.]{7,15})|TCP6 ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39})) %b %b\r\n"
    % (_PORT, _PORT)
)
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?\r\n", re.DOTALL)

#: The address families of version 2: 0 unspecified, 1 IPv4, 2 IPv6, 3 Unix; and its transports: 0 unspecified,
#: 1 stream, 2 datagram.  "Other values […] must be rejected as invalid by receivers."
_FAMILIES = range(4)
_TRANSPORTS = range(3)
_LOCAL, _PROXY = 0, 1


@dataclass(frozen=True)
class Header:
    """What a proxy says.  `source` is the host and port it speaks for; None: take the proxy's own address,
    for it came of its own accord (LOCAL), or cannot or may not say for whom (UNKNOWN)."""

    version: int
    source: tuple[str, int] | None


class HeaderDecoder:
    """The octets of one connection up to the end of its PROXY header."""

    __slots__ = ("_held", "error", "header", "rest")

    def __init__(self) -> None:
        self._held = b""
        #: Set once: what the proxy says …
        self.header: Header | None = None
        #: … and what came behind it, which is the first of the conversation proper.
        self.rest = b""
        #: Or why this is no header.  The text has nothing of the peer's own in it.
        self.error: FramingError | None = None

    def decode(self, data: bytes) -> Header | None:
        """Take `data`, cut anywhere; returns the header once it is complete, and None before, or where
        `error` is set."""
        if self.error is None and self.header is None:
            held = self._held = self._held + data
            try:
                end = _end(held)
                if end is not None:
                    self.header = _parse(held[:end])
                    self.rest = held[end:]
            except FramingError as error:
                self.error = error
            if self.error is not None or self.header is not None:
                self._held = b""
        return self.header

    def finish(self) -> None:
        """The input has ended."""
        if self.header is None and self.error is None:
            self.error = Incomplete("the input ended before the header did")

    @property
    def buffered(self) -> int:
        """Bytes of an incomplete header."""
        return len(self._held)

    @property
    def wanted(self) -> int:
        """How many octets may be read, such that none of them can lie behind the header; 0: it is complete."""
        if self.header is not None or self.error is not None:
            return 0
        held = self._held
        if len(held) < SHORTEST:
            return SHORTEST - len(held)
        if held.startswith(FIRST_WORD):
            return 1 if held.endswith(b"\r") else 2
        return _FIXED - len(held) if len(held) < _FIXED else _length(held) - len(held)


def _end(held: bytes) -> int | None:
    """Where the header ends; None: more is to come.  Raises `FramingError` as soon as none can come of it."""
    if FIRST_WORD.startswith(held[: len(FIRST_WORD)]):
        end = held.find(b"\r\n", 0, LINE_LIMIT) + 2
        if end >= 2:
            return end
        if len(held) >= LINE_LIMIT:
            raise Oversize(f"no line end within {LINE_LIMIT} octets")
        return None
    if not SIGNATURE.startswith(held[: len(SIGNATURE)]):
        raise Malformed("neither version of the PROXY header begins like this")
    if len(held) < _FIXED:
        return None
    end = _length(held)
    if end > LIMIT:
        raise Oversize(f"a header of {end} octets, of which {LIMIT} are taken")
    return end if len(held) >= end else None


def _length(held: bytes) -> int:
    return _FIXED + int.from_bytes(held[14:16], "big")


def _parse(header: bytes) -> Header:
    return _parse_line(header) if header.startswith(FIRST_WORD) else _parse_block(header)


def _parse_line(line: bytes) -> Header:
    if _UNKNOWN.fullmatch(line):
        return Header(1, None)
    match = _LINE.fullmatch(line)
    if match is None:
        raise Malformed("version 1: not PROXY, TCP4 or TCP6, two addresses and two ports, one blank between them")
    source4, to4, source6, to6, port, to_port = (part.decode("ascii") if part else "" for part in match.groups())
    if max(int(port), int(to_port)) > 65535:
        raise Malformed("version 1: a port above 65535")
    try:
        # Both are looked at: "any sequence which does not exactly match the protocol must be discarded".
        source, _ = (
            (ipaddress.IPv4Address(source4), ipaddress.IPv4Address(to4))
            if source4
            else (ipaddress.IPv6Address(source6), ipaddress.IPv6Address(to6))
        )
    except ValueError:
        raise Malformed("version 1: not an address") from None
    return Header(1, (_host(source), int(port)))


def _parse_block(block: bytes) -> Header:
    version, command = divmod(block[12], 16)
    family, transport = divmod(block[13], 16)
    if version != 2:
        raise Malformed("version 2: the version is not 2")
    if command == _LOCAL:
        return Header(2, None)  # "[…] discard the protocol block including the family which is ignored"
    if command != _PROXY:
        raise Malformed("version 2: neither LOCAL nor PROXY")
    if family not in _FAMILIES or transport not in _TRANSPORTS:
        raise Malformed("version 2: no such address family or transport")
    # A Unix peer of the proxy has no address that could be told, nor has a datagram become a connection.
    size = {1: 4, 2: 16}.get(family)
    if size is None or transport != 1:
        return Header(2, None)
    if len(block) < _FIXED + 2 * size + 4:
        raise Malformed("version 2: too short for its addresses")
    source = ipaddress.ip_address(block[_FIXED : _FIXED + size])
    ports = _FIXED + 2 * size
    return Header(2, (_host(source), int.from_bytes(block[ports : ports + 2], "big")))


def _host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As accept(2) would have given it; IPv4 in IPv6 as IPv4, so that it is one peer, not two."""
    return str(getattr(address, "ipv4_mapped", None) or address)
