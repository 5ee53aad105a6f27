"""A query to one DNS server: over UDP, over TCP if the response is truncated, without EDNS if that is not supported."""

from __future__ import annotations

import secrets
import socket
import time
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode

#: Maximum bytes of a response over UDP (EDNS, RFC 6891): small enough to avoid fragmentation on any path.
PAYLOAD = 1232

#: Bytes of the longest datagram.
LONGEST = 65_535

#: Response codes of servers that do not support EDNS (RFC 6891, section 7) or its version 0.
WITHOUT_EDNS = frozenset((dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS))

#: An address family and a socket address of that family.
Server = tuple[socket.AddressFamily, Any]


def query(name: dns.name.Name, kind: str, server: Server, timeout: float) -> dns.message.Message:
    """Return the response of `server`; `timeout` is the limit for all attempts in seconds.

    Raises `dns.exception.Timeout`, `dns.exception.DNSException`, `OSError`, `EOFError` or `ValueError`."""
    until = time.monotonic() + timeout
    response = _exchange(_question(name, kind, edns=True), server, until)
    if response.rcode() in WITHOUT_EDNS:
        response = _exchange(_question(name, kind, edns=False), server, until)
    return response


def _question(name: dns.name.Name, kind: str, *, edns: bool) -> dns.message.Message:
    # RFC 5452, section 9.2: the id must not be predictable.
    return dns.message.make_query(
        name, kind, use_edns=0 if edns else False, payload=PAYLOAD if edns else None, id=secrets.randbelow(65_536)
    )


def _exchange(question: dns.message.Message, server: Server, until: float) -> dns.message.Message:
    response = _over_udp(question, server, until)
    return response if response is not None else _over_tcp(question, server, until)


def _over_udp(question: dns.message.Message, server: Server, until: float) -> dns.message.Message | None:
    """Return the response, None if it is truncated.

    The socket is connected, so that datagrams from other addresses are dropped and ICMP errors are reported.  Datagrams
    that do not answer this query, such as late or forged responses, are ignored, as by dig: they must not end the wait
    for the right one."""
    family, address = server
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.connect(address)
        peer.send(question.to_wire())
        while True:
            peer.settimeout(_left(until))
            try:
                datagram = peer.recv(LONGEST)
            except TimeoutError:
                raise dns.exception.Timeout from None
            try:
                response = dns.message.from_wire(datagram, raise_on_truncation=True)
            except dns.message.Truncated as error:
                if question.is_response(error.kwargs["message"]):
                    return None
            except Exception:  # dnspython may raise any exception for malformed messages
                continue
            else:
                if question.is_response(response):
                    return response


def _over_tcp(question: dns.message.Message, server: Server, until: float) -> dns.message.Message:
    family, address = server
    with socket.socket(family, socket.SOCK_STREAM) as peer:
        peer.settimeout(_left(until))
        try:
            peer.connect(address)
        except TimeoutError:
            raise dns.exception.Timeout from None
        peer.setblocking(False)  # dnspython waits by itself
        return dns.query.tcp(question, address[0], timeout=_left(until), sock=peer)


def _left(until: float) -> float:
    """Return the seconds left until the deadline.  Raises `dns.exception.Timeout` if it has passed."""
    left = until - time.monotonic()
    if left <= 0:
        raise dns.exception.Timeout
    return left
