"""``daemons mtu HOST [PORT]``: how long a datagram may be that gets there in one piece.

Fragmentation is forbidden, ip(7), and then the longest datagram there is is sent.  If it is too long for our own
link the kernel says so at once; if for one on the way, the router before it does (ICMP, RFC 1191 and RFC 8201), and
the kernel tells us at the next call.  Either way it then knows how long one may be, and that is tried next, until
something comes back from there: an answer, or that nobody listens at that port.
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

#: udpd's: it says how much of a datagram has arrived.
PORT = 1060

#: Seconds until the same is sent again, at first; then twice as long each time.
PATIENCE = 0.2


@dataclass(frozen=True)
class Way:
    """What the family of an address makes of a datagram: its options, and octets of its headers."""

    level: int
    discover: int
    mtu: int
    #: That of IP, 20 octets or 40 (RFC 791, RFC 8200), and that of UDP, 8 octets.
    headers: int
    #: Octets in the longest datagram: its length, header of UDP included, and in IPv4 that of IP too, has 16 bits.
    longest: int


WAYS = {
    socket.AF_INET: Way(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_MTU, 28, 65_507),
    socket.AF_INET6: Way(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_MTU, 48, 65_527),
}


@dataclass(frozen=True)
class Found:
    """The path's MTU in octets, headers included, as far as it is known."""

    mtu: int
    #: Whether the longest datagram there is was too long.
    too_long: bool
    #: Whether one of this size has got there.
    arrived: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """HOST, PORT and -t."""
    parser.add_argument("host", metavar="HOST", type=arguments.filled, help="to whom")
    parser.add_argument(
        "port",
        metavar="PORT",
        nargs="?",
        type=lambda text: arguments.port(text, "udp"),
        default=PORT,
        help=f"a port of theirs, whether or not somebody listens there; else {PORT}, udpd's",
    )
    parser.add_argument(
        "-t", dest="timeout", metavar="SECONDS", type=arguments.seconds, default=3.0, help="to wait, in all; else 3"
    )
    parser.epilog = "Exit codes: 0 it is known, 1 nothing could be sent there, 2 a wrong command line."


def run(options: argparse.Namespace) -> int:
    """Print what was found; returns the exit code."""
    address = Address("udp", options.host, options.port)
    try:
        found = probe(address, options.timeout)
    except (OSError, UnicodeError) as error:
        raise NetworkError(address, error) from error
    print("Alas, the datagram did not make it" if found.too_long else "The big datagram was sent!")
    print(f"Actual MTU: {found.mtu}")
    if not found.arrived:
        reason = f"nothing has come back from there in {options.timeout:g} s; this is what is known so far"
        print(f"daemons mtu: {address}: {reason}", file=sys.stderr)
    return lifecycle.ENDED


def probe(address: Address, timeout: float) -> Found:
    """Send ever shorter datagrams, until one has arrived or `timeout` seconds are over.  Raises `OSError`."""
    until = time.monotonic() + timeout
    patience = PATIENCE
    too_long = arrived = False
    with reachable(address, socket.SOCK_DGRAM) as peer:
        way = WAYS[peer.family]
        peer.setsockopt(way.level, way.discover, PMTUDISC_DO)
        size = way.longest
        while not arrived and (left := until - time.monotonic()) > 0:
            try:
                peer.settimeout(min(patience, left))
                peer.send(bytes(size))
                peer.recv(1)
                arrived = True
            except ConnectionRefusedError:  # the host's word that it was there: ICMP, port unreachable
                arrived = True
            except TimeoutError:
                patience *= 2
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                too_long = True
                size = max(0, min(size, peer.getsockopt(way.level, way.mtu) - way.headers))
        return Found(peer.getsockopt(way.level, way.mtu), too_long, arrived)
