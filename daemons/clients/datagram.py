"""Asking over UDP, where any datagram may be lost, and nobody says so."""

from __future__ import annotations

import socket
import time

from daemons.clients.dial import NetworkError, reachable
from daemons.serving.address import Address

#: Seconds until a question is put again, at first; each time twice as long, so that a network that loses
#: datagrams because it has too many is not given more (RFC 8085, section 3.1.3).
PATIENCE = 0.2

#: Octets of the longest datagram.
LONGEST = 65_535


def inquire(address: Address, question: bytes, timeout: float) -> bytes:
    """Ask until an answer comes.  The socket is connected, so that nobody else can answer, and that a port where
    nobody listens is refused; and it is this question's alone, so that no late answer is taken for another's.
    Raises `NetworkError`, also where nothing has come after `timeout` seconds."""
    until = time.monotonic() + timeout
    patience = PATIENCE
    try:
        with reachable(address, socket.SOCK_DGRAM) as peer:
            while (left := until - time.monotonic()) > 0:
                peer.settimeout(min(patience, left))
                patience *= 2
                peer.send(question)
                try:
                    return peer.recv(LONGEST)
                except TimeoutError:
                    continue
    except OSError as error:
        raise NetworkError(address, error) from error
    reason = f"no answer in {timeout:g} s; what is wrong with a datagram is answered with silence"
    raise NetworkError(address, TimeoutError(reason))
