"""Names and addresses, as this system knows them: getaddrinfo(3) and getnameinfo(3), which ask /etc/hosts, the caches
and the DNS, in the order that nsswitch.conf(5) says.  Nothing here asks the DNS by itself."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

#: Of the families that this machine has an address of, and with the canonical name.  AI_V4MAPPED stands in the notes;
#: it acts only where AF_INET6 alone is asked for (T26).
FLAGS = socket.AI_ADDRCONFIG | socket.AI_V4MAPPED | socket.AI_CANONNAME


#: Numbers of `socket.gaierror` that say: there is none.  glibc tells a name without an address by the second.
NONE = frozenset((socket.EAI_NONAME, socket.EAI_NODATA))


class Place(NamedTuple):
    """One answer of getaddrinfo(3)."""

    family: socket.AddressFamily
    #: As connect(2) wants it: ``(host, port)``, and two numbers more for IPv6 (T23).
    address: Any
    #: The first alone has it.
    canonical: str


def places(host: str, port: int = 0) -> list[Place]:
    """Where `host` is; the order is that of RFC 6724, the one to be tried first first.

    Raises `OSError` (`socket.gaierror`) where it has no address, and `UnicodeError` where it cannot be a name."""
    try:
        # An address is taken as it is, though this machine may have none of its family but the loopback's.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=FLAGS)
    return [Place(family, address, canonical) for family, _, _, canonical, address in found]


def is_address(host: str) -> bool:
    """Whether it is written in numbers, so that nobody needs to be asked (AI_NUMERICHOST)."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def reverse(address: Any) -> str | None:
    """The name of an address, None where it has none.  AI_CANONNAME would not find it: that is the canonical form of
    the name that was asked for, and of an address the address itself (T24).  Raises `OSError` where nobody could
    tell."""
    try:
        return socket.getnameinfo(address, socket.NI_NAMEREQD)[0]
    except socket.gaierror as error:
        if error.errno in NONE:
            return None
        raise
