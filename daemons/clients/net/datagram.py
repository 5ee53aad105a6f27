"""Requests over UDP, retransmitted since any datagram may be lost without notice."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from daemons.clients.net.dial import NetworkError, Note, all_reachable, ignore_note, reachable
from daemons.serving.connection import show_peer
from daemons.serving.listening.address import Address

#: Returns whether a reply (second argument) belongs to a request (first argument).
Matches: TypeAlias = Callable[[bytes, bytes], bool]

#: Seconds until the first retransmission.  The interval doubles each time, so as not to add load to a congested network
#: (RFC 8085, section 3.1.3).
PATIENCE = 0.1

#: Maximum fraction by which an interval is randomly shortened, so that many clients that started together do not
#: retransmit together.
JITTER = 0.25

#: Seconds to wait for replies to a broadcast: its receivers are on the local network.
MOMENT = 1.0

#: Bytes of the longest datagram.
LONGEST = 65_535


def match_any(request: bytes, reply: bytes) -> bool:
    """Accept any reply: for protocols in which a reply does not identify its request."""
    return True


def send_request(
    address: Address, request: bytes, timeout: float, matches: Matches = match_any, note: Note = ignore_note
) -> bytes:
    """Send a request, retransmit it until a matching reply arrives, and return the reply.

    The socket is connected, so that only the peer's datagrams are received and a closed port is reported as refused.
    It serves one request, so that a late reply to another request is never received.  Raises `NetworkError`, also if
    there is no reply within `timeout` seconds."""
    until = time.monotonic() + timeout
    refused: ConnectionRefusedError | None = None
    try:
        for peer in all_reachable(address, socket.SOCK_DGRAM):
            with peer:
                note(f"Client has been assigned socket name {peer.getsockname()}")
                try:
                    reply = _retransmit(peer, request, until, matches, note)
                except ConnectionRefusedError as error:
                    refused = error  # another address of the host may have a listener
                    continue
            if reply is not None:
                return reply
            silence = "or that it ignores the request as invalid"
            reason = f"no answer in {timeout:g} s: I think the server is down, {silence}"
            raise NetworkError(address, TimeoutError(reason))
    except OSError as error:
        raise NetworkError(address, error) from error
    raise NetworkError(address, ConnectionRefusedError("connection refused: no listener on this port")) from refused


def _retransmit(peer: socket.socket, request: bytes, until: float, matches: Matches, note: Note) -> bytes | None:
    """Send a request repeatedly until a reply matches; return None if there was none by `until`.  Raises `OSError`."""
    patience = PATIENCE
    while (left := until - time.monotonic()) > 0:
        wait = min(patience, left)
        note(f"Waiting up to {wait:.2g} seconds for a reply")
        peer.send(request)
        # Computed once: datagrams that do not match must not extend the interval.
        again = time.monotonic() + wait * random.uniform(1 - JITTER, 1)
        while (left := again - time.monotonic()) > 0:
            peer.settimeout(left)
            try:
                reply = peer.recv(LONGEST)
            except TimeoutError:
                break
            if matches(request, reply):
                return reply
            note(f"Ignored a datagram that does not match the request: {reply[:40]!r}")
        patience *= 2
    return None


def is_broadcast(address: Address) -> bool:
    """Return whether an address is a broadcast address.  Nothing is sent: connect(2) to a broadcast address fails with
    EACCES unless the socket has SO_BROADCAST, socket(7).  Raises `NetworkError`."""
    try:
        reachable(address, socket.SOCK_DGRAM).close()
    except PermissionError:
        return True
    except OSError as error:
        raise NetworkError(address, error) from error
    return False


def send_broadcast(
    address: Address, request: bytes, timeout: float, matches: Matches = match_any, note: Note = ignore_note
) -> Iterator[tuple[str, bytes]]:
    """Send a request once to a broadcast address; yield the address of each peer that replies, and its reply.

    Replies are received for `MOMENT` seconds, or `timeout` if that is shorter.  The socket is not connected, since
    replies come from the addresses of the peers.  Raises `NetworkError`, also if there was no reply."""
    moment = min(timeout, MOMENT)
    is_answered = False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected:
            unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            unconnected.sendto(request, (address.host, address.port))
            note(f"Client has been assigned socket name {unconnected.getsockname()}")
            note(f"Waiting up to {moment:.2g} seconds for a reply")
            until = time.monotonic() + moment
            while (left := until - time.monotonic()) > 0:
                unconnected.settimeout(left)
                try:
                    reply, sender = unconnected.recvfrom(LONGEST)
                except TimeoutError:
                    break
                if matches(request, reply):
                    is_answered = True
                    yield show_peer(sender), reply
    except OSError as error:
        raise NetworkError(address, error) from error
    if not is_answered:
        raise NetworkError(address, TimeoutError(f"no reply within {moment:g} s"))
