"""Network that counts as one peer for limits per peer."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def peer_network(host: str) -> str:
    """Return the network that counts as one peer: an IPv4 address, or the /64 of an IPv6 address.

    An IPv6 host can use any address of its /64 (RFC 4291, section 2.5.4; RFC 6177), and a new one for each connection.
    IPv4-mapped IPv6 (``::ffff:192.0.2.1``) is treated as IPv4.  Link-local networks differ by interface, so the zone is
    kept (``fe80::%eth0/64``).  Other text, such as ``unix``, is returned unchanged."""
    text, _, zone = host.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    network = str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return f"{network}%{zone}/64" if zone else f"{network}/64"
