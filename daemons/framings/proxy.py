"""The PROXY protocol, versions 1 and 2: the header in which a proxy sends the address of its client.

HAProxy's ``doc/proxy-protocol.txt`` is the specification; the quotations are from there.  The contract:

    *For any bytes, cut anywhere, a decoder returns one header, or sets one error, or needs more input; it never holds
    more than `LIMIT` bytes, and never consumes a byte after the header.*
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

#: Maximum bytes of a version 2 header.  Its length field allows 65,551; the addresses are followed by type-length-value
#: vectors, which are ignored here.  nginx has the same limit.
LIMIT = 4096

#: Bytes of the shortest header: ``PROXY UNKNOWN`` and a line end.
SHORTEST = 15

_FIXED = 16  # bytes of a version 2 header before its addresses

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
    """Content of a header.

    source
        Host and port of the proxy's client.  None: the peer is the proxy itself, because the connection is the proxy's
        own (LOCAL), or the proxy does not report its client (UNKNOWN, or no stream over IP).
    """

    version: int
    source: tuple[str, int] | None


class HeaderDecoder:
    """Decoder of the PROXY header of one connection."""

    __slots__ = ("_held", "error", "header", "rest")

    def __init__(self) -> None:
        self._held = b""
        #: The header, once it is complete.
        self.header: Header | None = None
        #: Bytes received after the header, which belong to the conversation.
        self.rest = b""
        #: Set if the header is invalid.  The text quotes no bytes of the peer.
        self.error: FramingError | None = None

    def decode(self, data: bytes) -> Header | None:
        """Process `data`, cut anywhere.  Return the header if it is complete; None if it is not, or `error` is set."""
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
        """End the input: an incomplete header is an error."""
        if self.header is None and self.error is None:
            self.error = Incomplete("the input ended before the header did")

    @property
    def buffered(self) -> int:
        """Bytes of an incomplete header."""
        return len(self._held)

    @property
    def wanted(self) -> int:
        """Number of bytes that can be read without reading past the end of the header; 0 if the header is complete."""
        if self.header is not None or self.error is not None:
            return 0
        held = self._held
        if len(held) < SHORTEST:
            return SHORTEST - len(held)
        if held.startswith(FIRST_WORD):
            return 1 if held.endswith(b"\r") else 2
        return _FIXED - len(held) if len(held) < _FIXED else _length(held) - len(held)


def _end(held: bytes) -> int | None:
    """Return the length of the header; None if it is incomplete.  Raises `FramingError` once it cannot be valid."""
    if FIRST_WORD.startswith(held[: len(FIRST_WORD)]):
        end = held.find(b"\r\n", 0, LINE_LIMIT) + 2
        if end >= 2:
            return end
        if len(held) >= LINE_LIMIT:
            raise Oversize(f"no line end within {LINE_LIMIT} bytes")
        return None
    if not SIGNATURE.startswith(held[: len(SIGNATURE)]):
        raise Malformed("not a PROXY header of version 1 or 2")
    if len(held) < _FIXED:
        return None
    end = _length(held)
    if end > LIMIT:
        raise Oversize(f"a header of {end} bytes; at most {LIMIT} are allowed")
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
        raise Malformed("version 1: not PROXY, TCP4 or TCP6, two addresses and two ports, separated by one space")
    source4, to4, source6, to6, port, to_port = (part.decode("ascii") if part else "" for part in match.groups())
    if max(int(port), int(to_port)) > 65535:
        raise Malformed("version 1: a port above 65535")
    try:
        # Both addresses are parsed: "any sequence which does not exactly match the protocol must be discarded".
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
    # A Unix client of the proxy has no IP address, and a datagram no connection.
    size = {1: 4, 2: 16}.get(family)
    if size is None or transport != 1:
        return Header(2, None)
    if len(block) < _FIXED + 2 * size + 4:
        raise Malformed("version 2: too short for its addresses")
    source = ipaddress.ip_address(block[_FIXED : _FIXED + size])
    ports = _FIXED + 2 * size
    return Header(2, (_host(source), int.from_bytes(block[ports : ports + 2], "big")))


def _host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the host as accept(2) would; an IPv4-mapped IPv6 address as IPv4, so that both are one peer."""
    return str(getattr(address, "ipv4_mapped", None) or address)
