"""Name resolution by the system: getaddrinfo(3) and getnameinfo(3), which consult /etc/hosts, caches and the DNS in the
order configured in nsswitch.conf(5).  Nothing here queries the DNS directly."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, NamedTuple

#: Only addresses of families that this machine has, and the canonical name.  AI_V4MAPPED has an effect only if AF_INET6
#: alone is requested (T26).
FLAGS = socket.AI_ADDRCONFIG | socket.AI_V4MAPPED | socket.AI_CANONNAME


#: Codes of `socket.gaierror` for a name that does not exist, and for one without an address (glibc's EAI_NODATA).
NOT_FOUND = frozenset((socket.EAI_NONAME, socket.EAI_NODATA))


class HostAddress(NamedTuple):
    """One result of getaddrinfo(3)."""

    family: socket.AddressFamily
    #: For connect(2): ``(host, port)``, with two more numbers for IPv6 (T23).
    address: Any
    #: Set in the first result only.
    canonical: str


def resolve(host: str, port: int = 0) -> list[HostAddress]:
    """Return the addresses of `host` in the order to try them (RFC 6724).

    Raises `OSError` (`socket.gaierror`) if it has no address, and `UnicodeError` if it is not a valid host name."""
    try:
        # Without AI_ADDRCONFIG: a numeric address is valid even if this machine has no address of its family.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=FLAGS)
    return [HostAddress(family, address, canonical) for family, _, _, canonical, address in found]


def is_address(host: str) -> bool:
    """Return whether `host` is a numeric address, which needs no name resolution (AI_NUMERICHOST)."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def reverse(address: Any) -> str | None:
    """Return the name of an address, None if it has none.

    AI_CANONNAME does not give it: for an address it returns the address itself (T24).  Raises `OSError` if the name
    service fails."""
    try:
        return socket.getnameinfo(address, socket.NI_NAMEREQD)[0]
    except socket.gaierror as error:
        if error.errno in NOT_FOUND:
            return None
        raise


def refuse_itself(peer: socket.socket) -> None:
    """Raise `ConnectionRefusedError` if a TCP socket is connected to itself.

    If a port has no listener and the kernel chooses it as the source port, both ends of the connection are the same
    socket (simultaneous open, RFC 9293, section 3.5)."""
    try:
        is_itself = peer.getsockname() == peer.getpeername()
    except OSError:  # the peer has reset the connection already
        return
    if is_itself:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
