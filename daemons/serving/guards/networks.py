"""The network that counts as one peer wherever something is limited for each peer."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4096)
def peer_network(host: str) -> str:
    """Return the network that counts as one peer: an IPv4 address, or the /64 of an IPv6 address.

    A host has all addresses of its /64 to choose from (RFC 4291, section 2.5.4; RFC 6177) and may use a new one each
    time.  IPv4 in IPv6 (``::ffff:192.0.2.1``) is IPv4.  A link-local network is another one at each interface, so its
    zone stays (``fe80::%eth0/64``).  Anything that is no address, as ``unix``, is a peer of that name."""
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
