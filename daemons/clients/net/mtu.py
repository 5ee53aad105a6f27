"""``daemons mtu HOST [PORT]``: path MTU discovery with UDP.

Fragmentation is disabled, ip(7), and the longest possible datagram is sent.  If it is too long for the local link,
send(2) fails with EMSGSIZE; if it is too long for a later link, a router reports that by ICMP (RFC 1191, RFC 8201), and
the next call fails.  The kernel then knows a lower MTU, and a datagram of that size is sent next, until the host
replies or reports that the port is unreachable.
"""

from __future__ import annotations

import argparse
import errno
import socket
import sys
import time
from dataclasses import dataclass

from daemons.clients import arguments
from daemons.clients.net.dial import NetworkError, reachable
from daemons.operating import lifecycle
from daemons.serving.listening.address import Address

#: linux/in.h and linux/in6.h; Python has no names for them.
IP_MTU_DISCOVER, IP_MTU, IPV6_MTU_DISCOVER, IPV6_MTU = 10, 14, 23, 24
PMTUDISC_DO = 2

#: The port of udpd, which replies with the length of the datagram.
PORT = 1060

#: Seconds until the first retransmission; the interval doubles each time.
PATIENCE = 0.2


@dataclass(frozen=True)
class FamilyParameters:
    """Socket options and sizes of an address family."""

    level: int
    discover: int
    mtu: int
    #: Bytes of the IP header, 20 or 40 (RFC 791, RFC 8200), and the UDP header, 8.
    headers: int
    #: Bytes of the longest payload: the 16-bit length includes the UDP header, and in IPv4 the IP header too.
    longest: int


FAMILIES = {
    socket.AF_INET: FamilyParameters(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_MTU, 28, 65_507),
    socket.AF_INET6: FamilyParameters(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_MTU, 48, 65_527),
}


@dataclass(frozen=True)
class Found:
    """Result of the discovery: the path MTU in bytes, headers included, as far as it is known."""

    mtu: int
    #: Whether the longest possible datagram was too long.
    too_long: bool
    #: Whether a datagram of this size has reached the host.
    arrived: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add HOST, PORT and -t."""
    parser.add_argument("host", metavar="HOST", type=arguments.nonempty, help="a name or an address")
    parser.add_argument(
        "port",
        metavar="PORT",
        nargs="?",
        type=lambda text: arguments.port(text, "udp"),
        default=PORT,
        help=f"any UDP port of the host, open or closed (default {PORT}, the port of udpd)",
    )
    parser.add_argument(
        "-t", dest="timeout", metavar="SECONDS", type=arguments.seconds, default=3.0, help="total timeout (default 3)"
    )
    parser.epilog = "Exit codes: 0 MTU found, 1 nothing could be sent to the host, 2 wrong command line."


def run(options: argparse.Namespace) -> int:
    """Print the path MTU; return the exit code."""
    address = Address("udp", options.host, options.port)
    try:
        found = probe(address, options.timeout)
    except (OSError, UnicodeError) as error:
        raise NetworkError(address, error) from error
    print("Alas, the datagram did not make it" if found.too_long else "The big datagram was sent!")
    print(f"Actual MTU: {found.mtu}")
    if not found.arrived:
        reason = f"no response from the host in {options.timeout:g} s; the path MTU may be lower"
        print(f"daemons mtu: {address}: {reason}", file=sys.stderr)
    return lifecycle.ENDED


def probe(address: Address, timeout: float) -> Found:
    """Send datagrams of decreasing size until one arrives or `timeout` seconds have passed.  Raises `OSError`."""
    until = time.monotonic() + timeout
    patience = PATIENCE
    too_long = arrived = False
    with reachable(address, socket.SOCK_DGRAM) as peer:
        family = FAMILIES[peer.family]
        peer.setsockopt(family.level, family.discover, PMTUDISC_DO)
        size = family.longest
        while not arrived and (left := until - time.monotonic()) > 0:
            try:
                peer.settimeout(min(patience, left))
                peer.send(bytes(size))
                peer.recv(1)
                arrived = True
            except ConnectionRefusedError:  # ICMP port unreachable: the datagram has reached the host
                arrived = True
            except TimeoutError:
                patience *= 2
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                too_long = True
                size = max(0, min(size, peer.getsockopt(family.level, family.mtu) - family.headers))
        return Found(peer.getsockopt(family.level, family.mtu), too_long, arrived)
