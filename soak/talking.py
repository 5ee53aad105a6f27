"""Connections to the daemons under test, and the errors that clients report."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from soak.place import Place

#: Seconds for one operation on a socket: longer than any deadline of a daemon, to tell a hanging daemon from a slow
#: one.
PATIENCE = 20.0
RECEIVE = 64 * 1024

#: Daemons with TLS listeners.
SECURE = ("httpsd", "tlsd")


class Wrong(Exception):
    """A daemon has sent incorrect output.  The text describes it."""


class Parted(Exception):
    """A connection was closed between two messages, as a replaced worker may do."""


@dataclass(frozen=True)
class Visit:
    """One kind of conversation with one daemon."""

    daemon: str
    name: str
    hold: Callable[[Place, random.Random], object]

    def __str__(self) -> str:
        return f"{self.daemon}: {self.name}"


def expect(answer: object, expected: object, what: str) -> None:
    """Raise `Wrong` unless the two values are equal."""
    if answer != expected:
        raise Wrong(f"{what}: {_short(answer)}, not {_short(expected)}")


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 120 else f"{text[:80]}... ({len(text)} characters)"


def plain(place: Place, name: str, host: str = "", buffer: int = 0) -> socket.socket:
    """Return a TCP connection from the local address `host`, with a receive buffer of `buffer` bytes."""
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
    """Provide a connection, over TLS if the daemon requires it."""
    peer = plain(place, name, host, buffer)
    try:
        if name in SECURE:
            peer = trusting(place).wrap_socket(peer, server_hostname="localhost")
        yield peer
    finally:
        peer.close()


def trusting(place: Place) -> ssl.SSLContext:
    """Return a context that trusts the CA of the test environment."""
    context = ssl.create_default_context(cafile=str(place.path / "run" / "tls" / "ca.pem"))
    context.check_hostname = False
    return context


def send_all(place: Place, name: str, data: bytes) -> bytes:
    """Send all bytes, shut down the sending half, and return all output, like ``nc -N``."""
    with connected(place, name) as peer:
        return exchange(peer, data)


def exchange(peer: socket.socket, data: bytes) -> bytes:
    """Send and receive as `send_all`, on a given connection."""
    if data:
        peer.sendall(data)
    if not isinstance(peer, ssl.SSLSocket):
        peer.shutdown(socket.SHUT_WR)
    return to_the_end(peer)


def to_the_end(peer: socket.socket) -> bytes:
    """Return all input until the peer closes."""
    received = bytearray()
    while piece := peer.recv(RECEIVE):
        received += piece
    return bytes(received)


def exactly(peer: socket.socket, count: int, *, first: bool = True) -> bytes:
    """Return `count` bytes.  Raises `EOFError`; or `Parted` if a reply other than the `first` has not begun."""
    received = bytearray()
    while len(received) < count:
        try:
            piece = peer.recv(count - len(received))
        except ConnectionError:
            if received or first:
                raise
            piece = b""
        if not piece:
            if received or first:
                raise EOFError(f"closed after {len(received)} bytes of {count}")
            raise Parted
        received += piece
    return bytes(received)


def reset(peer: socket.socket) -> None:
    """Close with a reset (SO_LINGER, socket(7))."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
