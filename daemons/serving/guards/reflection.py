"""Protection against packet loops: two UDP services that answer each other's replies endlessly.

One datagram with a spoofed source address starts a loop: CERT advisory CA-1996-01.  Like inetd(8) for its built-in
services, drop datagrams with a source port that is

* 0, to which no reply can be sent (RFC 768: no reply is expected);
* that of a service that answers any input: echo, daytime, qotd, chargen, time (RFC 862 to 868);
* a port on which this daemon listens, from any address: the source may be the daemon itself or the same service on
  another host.  If clients may use the service's own port (`Service.same_port`, as in DNS), only from addresses of this
  host.
"""

from __future__ import annotations

import socket
from collections.abc import Collection

#: Port 0, and the ports of services that answer any input.
ANSWERING = frozenset((0, 7, 13, 17, 19, 37))


def may_loop(host: str, port: int, ports: Collection[int], *, same_port: bool) -> bool:
    """Return whether a reply to that source may be answered again; `ports` are those on which the daemon listens."""
    if port in ports:
        return not same_port or is_of_this_machine(host)
    return port in ANSWERING


def is_of_this_machine(host: str) -> bool:
    """Return whether an IP address belongs to this host: a socket can be bound to it."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
