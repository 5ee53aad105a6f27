"""Asking over UDP, where any datagram may be lost, and nobody says so."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from daemons.clients.net.dial import NetworkError, Note, all_reachable, reachable, silent
from daemons.serving.connection import show_peer
from daemons.serving.listening.address import Address

#: Whether the second is an answer to the first.
Matches: TypeAlias = Callable[[bytes, bytes], bool]

#: Seconds until a question is put again, at first; each time twice as long, so that a network that loses
#: datagrams because it has too many is not given more (RFC 8085, section 3.1.3) …
PATIENCE = 0.1

#: … and up to this share less, so that many who began together do not go on together.
JITTER = 0.25

#: Seconds within which who hears a broadcast has answered: those who do are near.
MOMENT = 1.0

#: Octets of the longest datagram.
LONGEST = 65_535


def anything(question: bytes, answer: bytes) -> bool:
    """The `Matches` of protocols whose answers do not tell what they answer."""
    return True


def inquire(
    address: Address, question: bytes, timeout: float, matches: Matches = anything, note: Note = silent
) -> bytes:
    """Ask until an answer comes that matches.  The socket is connected, so that nobody else can answer, and that a
    port where nobody listens is refused; and it is this question's alone, so that no late answer is taken for
    another's.  Raises `NetworkError`, also where nothing has come after `timeout` seconds."""
    until = time.monotonic() + timeout
    refused: ConnectionRefusedError | None = None
    try:
        for peer in all_reachable(address, socket.SOCK_DGRAM):
            with peer:
                note(f"Client has been assigned socket name {peer.getsockname()}")
                try:
                    answer = _insist(peer, question, until, matches, note)
                except ConnectionRefusedError as error:
                    refused = error  # at this one of the host's addresses
                    continue
            if answer is not None:
                return answer
            silence = "or what was said is wrong, which is answered with silence"
            reason = f"no answer in {timeout:g} s: I think the server is down, {silence}"
            raise NetworkError(address, TimeoutError(reason))
    except OSError as error:
        raise NetworkError(address, error) from error
    raise NetworkError(address, ConnectionRefusedError("connection refused: nobody listens there")) from refused


def _insist(peer: socket.socket, question: bytes, until: float, matches: Matches, note: Note) -> bytes | None:
    """Put a question again and again; None if there was no answer by then.  Raises `OSError`."""
    patience = PATIENCE
    while (left := until - time.monotonic()) > 0:
        wait = min(patience, left)
        note(f"Waiting up to {wait:.2g} seconds for a reply")
        peer.send(question)
        # What does not match must not buy more time.
        again = time.monotonic() + wait * random.uniform(1 - JITTER, 1)
        while (left := again - time.monotonic()) > 0:
            peer.settimeout(left)
            try:
                answer = peer.recv(LONGEST)
            except TimeoutError:
                break
            if matches(question, answer):
                return answer
            note(f"That was no answer to this question: {answer[:40]!r}")
        patience *= 2
    return None


def is_broadcast(address: Address) -> bool:
    """Whether it is that of everybody on a network.  The kernel knows the networks; to a socket that has not asked
    for SO_BROADCAST it refuses such an address, socket(7).  Nothing is sent.  Raises `NetworkError`."""
    try:
        reachable(address, socket.SOCK_DGRAM).close()
    except PermissionError:
        return True
    except OSError as error:
        raise NetworkError(address, error) from error
    return False


def proclaim(
    address: Address, question: bytes, timeout: float, matches: Matches = anything, note: Note = silent
) -> Iterator[tuple[str, bytes]]:
    """Say it, once, to everybody at a broadcast address; yields each answer that comes within a moment, or
    `timeout`, and who has sent it.  The socket is not connected, for nobody answers from that address.  Raises
    `NetworkError`, also where nobody has answered."""
    moment = min(timeout, MOMENT)
    answered = False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as everybody:
            everybody.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            everybody.sendto(question, (address.host, address.port))
            note(f"Client has been assigned socket name {everybody.getsockname()}")
            note(f"Waiting up to {moment:.2g} seconds for a reply")
            until = time.monotonic() + moment
            while (left := until - time.monotonic()) > 0:
                everybody.settimeout(left)
                try:
                    answer, who = everybody.recvfrom(LONGEST)
                except TimeoutError:
                    break
                if matches(question, answer):
                    answered = True
                    yield show_peer(who), answer
    except OSError as error:
        raise NetworkError(address, error) from error
    if not answered:
        raise NetworkError(address, TimeoutError(f"nobody has answered within {moment:g} s"))
