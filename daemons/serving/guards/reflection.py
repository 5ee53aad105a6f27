"""Datagrams whose answer would be answered: two services that send each other datagrams for ever.

Anybody can write any source on a datagram, and one is enough to begin with: CERT advisory CA-1996-01.  As inetd(8) does
for its own services, datagrams are dropped that come

* from port 0, which nobody can answer (RFC 768: no reply is expected);
* from the port of a service that answers anything: echo, daytime, qotd, chargen, time (RFC 862 to 868);
* from a port at which this daemon listens itself, whatever the address: from the daemon itself, or from one like it on
  another machine.  Where clients may have the port of the service (`Service.same_port`, as in DNS), only from addresses
  of this machine.
"""

from __future__ import annotations

import socket
from collections.abc import Collection

#: Ports of services that answer whatever comes; and none.
ANSWERING = frozenset((0, 7, 13, 17, 19, 37))


def may_loop(host: str, port: int, ports: Collection[int], *, same_port: bool) -> bool:
    """Return whether an answer to that source may be answered; `ports` are those at which the daemon listens."""
    if port in ports:
        return not same_port or is_of_this_machine(host)
    return port in ANSWERING


def is_of_this_machine(host: str) -> bool:
    """Return whether an IP address is one of this machine: a socket can be bound to it."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
