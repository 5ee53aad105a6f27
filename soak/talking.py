"""What all visitors need: a connection to a daemon of the place, and words for what they met."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from soak.place import Place

#: Seconds for one operation on a socket: longer than any deadline of a daemon, so that one that hangs is told from one
#: that waits.
PATIENCE = 20.0
RECEIVE = 64 * 1024

#: Daemons that are spoken to over TLS.
SECURE = ("httpsd", "tlsd")


class Wrong(Exception):
    """A daemon has said what it must not say.  The text tells what."""


class Parted(Exception):
    """A connection was closed between two messages, as a worker that is replaced may do."""


@dataclass(frozen=True)
class Visit:
    """One way to visit one daemon."""

    daemon: str
    name: str
    hold: Callable[[Place, random.Random], object]

    def __str__(self) -> str:
        return f"{self.daemon}: {self.name}"


def expect(answer: object, expected: object, what: str) -> None:
    """Raises `Wrong`."""
    if answer != expected:
        raise Wrong(f"{what}: {_short(answer)}, not {_short(expected)}")


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 120 else f"{text[:80]}... ({len(text)} characters)"


def plain(place: Place, name: str, host: str = "", buffer: int = 0) -> socket.socket:
    """A TCP connection, from the address `host` of this machine; `buffer`: the octets that our kernel takes for us."""
    peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        peer.settimeout(PATIENCE)
        if host:
            peer.bind((host, 0))
        peer.connect(("127.0.0.1", place.ports[name]))
    except BaseException:
        peer.close()
        raise
    return peer


@contextlib.contextmanager
def connected(place: Place, name: str, host: str = "", buffer: int = 0) -> Iterator[socket.socket]:
    """The same for the length of a with block, over TLS where the daemon speaks it."""
    peer = plain(place, name, host, buffer)
    try:
        if name in SECURE:
            peer = trusting(place).wrap_socket(peer, server_hostname="localhost")
        yield peer
    finally:
        peer.close()


def trusting(place: Place) -> ssl.SSLContext:
    """A context that trusts the CA of the place."""
    context = ssl.create_default_context(cafile=str(place.path / "run" / "tls" / "ca.pem"))
    context.check_hostname = False
    return context


def said(place: Place, name: str, octets: bytes) -> bytes:
    """Send all, close our half, and return all that comes: what ``nc -N`` does."""
    with connected(place, name) as peer:
        return said_to(peer, octets)


def said_to(peer: socket.socket, octets: bytes) -> bytes:
    """The same on a connection."""
    if octets:
        peer.sendall(octets)
    if not isinstance(peer, ssl.SSLSocket):
        peer.shutdown(socket.SHUT_WR)
    return to_the_end(peer)


def to_the_end(peer: socket.socket) -> bytes:
    """All that comes until the peer closes."""
    heard = bytearray()
    while piece := peer.recv(RECEIVE):
        heard += piece
    return bytes(heard)


def exactly(peer: socket.socket, count: int, *, first: bool = True) -> bytes:
    """So many octets.  Raises `EOFError`; and `Parted` where it is not the `first` answer and nothing of it came."""
    heard = bytearray()
    while len(heard) < count:
        try:
            piece = peer.recv(count - len(heard))
        except ConnectionError:
            if heard or first:
                raise
            piece = b""
        if not piece:
            if heard or first:
                raise EOFError(f"closed after {len(heard)} octets of {count}")
            raise Parted
        heard += piece
    return bytes(heard)


def reset(peer: socket.socket) -> None:
    """Close with a reset in place of an orderly end, socket(7): SO_LINGER."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
